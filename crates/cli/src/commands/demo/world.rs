//! The network, its processes, and the folder they live in.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use mutua_lab::folder::StateFolder;
use mutua_lab::{Door, Ending, GATEWAY, Network, Process, RUN, Service, Sniffer, privilege};

use super::ask::ControlPlane;
use super::files;
use super::progress::wait;
use super::runner::Verdict;
use super::scenario::{CONTROL_PLANE, LEGACY, LOAD, SERVICES, WORKLOADS, Workload};
use super::{Stop, runner};
use crate::output::{DIM, note};

/// As root, sidecars run as this user, whose connections are not captured, as anywhere.
const USER: u32 = 1337;
/// Where there is no other user, or none that reaches our files, connections that carry this mark are the sidecars' own.
const MARK: &str = "1337";
/// Where the control plane shows its console, in its own namespace.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20001);
/// How long anything may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// From issuance to the end of a leaf: renewals happen at half of it.
const LEAF_TTL: &str = "20s";

/// Everything that runs. Fields are dropped in this order: processes before the network, the folder last.
pub(crate) struct World {
    pub load: Vec<Process>,
    sidecars: Vec<Process>,
    control_plane: Option<Process>,
    programs: Vec<Process>,
    pub sniffer: Sniffer,
    pub network: Network,
    pub control: ControlPlane,
    /// Where the console is reached.
    pub console: Option<SocketAddr>,
    program: PathBuf,
    sidecar_program: PathBuf,
    /// Whom sidecars run as; none: as we do, and their connections carry a mark.
    sidecar_user: Option<u32>,
    folder: StateFolder,
}

impl World {
    /// Builds the network, with nothing in it yet.
    pub fn build() -> anyhow::Result<Self> {
        let folder = StateFolder::new(&std::env::temp_dir(), "mutua-demo-")?;
        // Sidecars run as another user and must find their own folders.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        for name in ["logs", "config", "staged", "sidecars", "run/secrets/partner"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        let mut network = Network::new(folder.path())?;
        let sniffer = network.listen()?;
        for (name, number) in WORKLOADS.iter().map(|one| (one.name, one.number)).chain([CONTROL_PLANE]) {
            network.add(name, address(number), &hosts_of(name))?;
        }
        network.route_services(LEGACY, &routes())?;
        let control = ControlPlane::new(&folder.path().join("control"));
        let program = std::env::current_exe().context("where this program stands")?;
        let sidecar_program = sidecar_program(&program);
        let others = !privilege::has_one_uid() && [folder.path(), &sidecar_program].into_iter().all(others_reach);
        let sidecar_user = others.then_some(USER);
        Ok(Self {
            load: Vec::new(),
            sidecars: Vec::new(),
            control_plane: None,
            programs: Vec::new(),
            sniffer,
            network,
            control,
            console: None,
            sidecar_user,
            program,
            sidecar_program,
            folder,
        })
    }

    /// Lets browsers of this machine reach the console at `address`; where that is taken, a word says so.
    pub fn show_console(&mut self, address: SocketAddr) {
        let (host, _) = CONTROL_PLANE;
        let opened = self
            .network
            .host(host)
            .map_err(anyhow::Error::from)
            .and_then(|host| Ok(Door::open(address, Arc::clone(&host.namespace), CONSOLE)?));
        match opened {
            Ok(door) => self.console = Some(door.address),
            Err(error) => note(&format!("the console is not shown at {address}: {error} (--console chooses another address)")),
        }
    }

    /// The folder that the control plane watches.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Where files wait before they are moved into the watched folder: on the same file system.
    pub fn staged(&self) -> PathBuf {
        self.folder.path().join("staged")
    }

    /// The control plane's state folder.
    pub fn control_state(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// The state folder of a workload's sidecar.
    pub fn sidecar_state(&self, workload: &str) -> PathBuf {
        self.folder.path().join("sidecars").join(workload.replace('/', "-"))
    }

    /// The roots of the mesh.
    pub fn roots(&self) -> PathBuf {
        self.control_state().join("root-cert.pem")
    }

    /// This program, to run `mutua lab …` in a host.
    pub fn lab(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("lab").args(arguments).process_group(0);
        command
    }

    /// The words that run a command of a person's own in a host.
    pub fn enter(&self, host: &str) -> anyhow::Result<String> {
        let namespace = &self.network.host(host)?.namespace;
        let user = if privilege::has_one_uid() {
            format!("--user=/proc/{}/ns/user --preserve-credentials ", std::process::id())
        } else {
            String::new()
        };
        Ok(format!("nsenter {user}--net={} --mount={}", namespace.network_path(), namespace.mounts_path()))
    }

    /// The path of this program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts everything: services, control plane, sidecars, and the load last.
    pub fn start(&mut self, stop: &Stop) -> anyhow::Result<()> {
        for workload in WORKLOADS {
            for (number, arguments) in workload.programs.iter().enumerate() {
                let name = format!("{} program {}", workload.name, number + 1);
                let arguments = [&["lab"][..], arguments].concat();
                let process = self.spawn(workload.name, &name, &arguments)?;
                self.programs.push(process);
            }
        }
        runner::write_folder(self, files::MESH)?;
        self.start_control_plane(stop)?;
        self.wait_for_programs(stop)?;
        for workload in WORKLOADS.iter().filter(|workload| workload.sidecar) {
            let process = self.start_sidecar(workload)?;
            self.sidecars.push(process);
        }
        runner::wait_until_in_force(self, 1, stop)?;
        for (from, url, per_connection) in LOAD {
            self.start_load(from, url, *per_connection)?;
        }
        Ok(())
    }

    fn start_control_plane(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let (host, number) = CONTROL_PLANE;
        let (config, state) = (path(&self.config()), path(&self.control_state()));
        let listen = format!("{}:15012", address(number));
        let arguments = ["control-plane", "--config", &config, "--state", &state, "--listen", &listen, "--leaf-ttl", LEAF_TTL];
        self.control_plane = Some(self.spawn(host, host, &arguments)?);
        let log = self.log_of(host);
        wait("the control plane", PATIENCE, stop, || {
            if let Some(status) = self.control_plane.as_mut().and_then(Process::ended) {
                bail!("the control plane ended ({status}):\n{}", last_lines(&log));
            }
            Ok(self.control.proxies().map(drop).map_err(|error| error.to_string()))
        })
    }

    /// A token, the capture rules, then the sidecar: as a person would set up a machine.
    fn start_sidecar(&self, workload: &Workload) -> anyhow::Result<Process> {
        let state = self.sidecar_state(workload.name);
        fs::create_dir_all(&state)?;
        let control = path(&self.control_state());
        let mut create = Command::new(&self.program);
        create.args(["token", "create", workload.name, "--state", &control]);
        let output = create.output().context("running mutua token create")?;
        if !output.status.success() {
            bail!("mutua token create: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let token = state.join("token");
        fs::write(&token, &output.stdout)?;
        let roots = state.join("mesh-roots.pem");
        fs::copy(self.roots(), &roots)?;
        self.start_proxy(workload, &[&path(&roots), &path(&token), &path(&state)])
    }

    fn start_proxy(&self, workload: &Workload, [roots, token, state]: &[&str; 3]) -> anyhow::Result<Process> {
        let namespace = &self.network.host(workload.name)?.namespace;
        let exempt: &[&str] = if self.sidecar_user.is_none() { &["--exempt-mark", MARK] } else { &[] };
        namespace.run(Command::new(&self.program).args(["redirect", "apply"]).args(exempt))?;
        let control_plane = format!("{}:15012", address(CONTROL_PLANE.1));
        let mut arguments = if self.sidecar_program == self.program { vec!["proxy"] } else { Vec::new() };
        arguments.extend(["--workload", workload.name, "--control-plane", &control_plane]);
        arguments.extend(["--ca-root", roots, "--token-file", token, "--state", state, "--tls-dir", "/run/secrets"]);
        let name = format!("{} sidecar", workload.name);
        let Some(user) = self.sidecar_user else {
            arguments.extend(["--mark", MARK]);
            return Ok(namespace.spawn(&name, &mut self.logged(&name, &self.sidecar_program, &arguments)?)?);
        };
        for path in [state, roots, token] {
            std::os::unix::fs::chown(path, Some(user), Some(user))?;
        }
        Ok(namespace.spawn_as(user, &name, &mut self.logged(&name, &self.sidecar_program, &arguments)?)?)
    }

    fn start_load(&mut self, from: &str, url: &str, per_connection: u32) -> anyhow::Result<()> {
        let mut command = self.lab(&["load", url, "--per-connection", &per_connection.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let process = self.network.host(from)?.namespace.spawn(&format!("{from} → {url}"), &mut command)?;
        self.load.push(process);
        Ok(())
    }

    fn wait_for_programs(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let ports = SERVICES.iter().flat_map(|service| service.ports.iter().map(|(_, port)| (service.workload, *port)));
        for (name, port) in ports {
            let (network, programs) = (&self.network, &mut self.programs);
            let host = network.host(name)?;
            let address = SocketAddr::from((host.address, port));
            wait(&format!("{name} to listen on port {port}"), PATIENCE, stop, || {
                if let Some(ended) = programs.iter_mut().find_map(|one| one.ended().map(|status| (one.name().to_owned(), status)))
                {
                    bail!("{} ended: {}", ended.0, ended.1);
                }
                let reached = host.namespace.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)))?;
                Ok(reached.map(drop).map_err(|error| error.to_string()))
            })?;
        }
        let partner = self.folder.path().join(RUN).join("secrets/partner/partner-root.pem");
        wait("the partner's certificates", PATIENCE, stop, || {
            Ok(if partner.exists() { Ok(()) } else { Err(format!("{} is not there", partner.display())) })
        })
    }

    fn spawn(&self, host: &str, name: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        Ok(self.network.host(host)?.namespace.spawn(name, &mut self.logged(name, &self.program, arguments)?)?)
    }

    /// A program with these arguments and a log of its own.
    fn logged(&self, name: &str, program: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
        let log = File::create(self.log_of(name))?;
        let mut command = Command::new(program);
        // A group of its own: Ctrl-C reaches us alone, and we end the others in order.
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Ok(command)
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(format!("{}.log", name.replace(['/', ' '], "-")))
    }

    /// Processes that ended although nobody asked them to.
    pub fn ended_by_themselves(&mut self) -> Vec<String> {
        let all = self.sidecars.iter_mut().chain(&mut self.programs).chain(&mut self.control_plane).chain(&mut self.load);
        all.filter_map(|process| process.ended().map(|status| format!("{} ended: {status}", process.name()))).collect()
    }

    /// What sidecars run as.
    pub fn sidecar_command(&self) -> &'static str {
        if self.sidecar_program == self.program { "mutua proxy" } else { "mutua-proxy" }
    }

    /// Resident bytes of each sidecar.
    pub fn sidecar_memory(&self) -> Vec<u64> {
        let resident = |process: &Process| {
            let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
        };
        self.sidecars.iter().filter_map(resident).collect()
    }

    /// What the processes wrote last, for somebody who has to find out what went wrong.
    pub fn print_last_words(&self) {
        let mut names: Vec<_> =
            self.sidecars.iter().chain(&self.control_plane).chain(&self.programs).map(Process::name).collect();
        names.sort_unstable();
        for name in names {
            let lines = last_lines(&self.log_of(name));
            if !lines.is_empty() {
                note(&format!("{DIM}── {name}{DIM:#}\n{lines}"));
            }
        }
    }

    /// Copies the logs to a folder that stays.
    pub fn keep_logs(&self, to: Option<&Path>) {
        let Some(to) = to else { return };
        let copy = || -> std::io::Result<()> {
            fs::create_dir_all(to)?;
            for entry in fs::read_dir(self.folder.path().join("logs"))? {
                let entry = entry?;
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
            Ok(())
        };
        if let Err(error) = copy() {
            note(&format!("the logs could not be kept in {}: {error}", to.display()));
        }
    }

    /// Ends everything, the sidecars first and by asking; one that has to be killed is a failure.
    pub fn end(self, mut verdict: Verdict) -> Verdict {
        let Self { load, sidecars, control_plane, programs, .. } = self;
        drop(load);
        let asked: Vec<Process> = sidecars.into_iter().chain(control_plane).collect();
        for process in &asked {
            process.ask_to_end();
        }
        for process in asked {
            let name = process.name().to_owned();
            if process.end(Duration::from_secs(10)) == Ending::Killed {
                verdict.fail(&format!("{name} did not end within 10 s of being asked to"));
            }
        }
        drop(programs);
        verdict
    }
}

/// The sidecar as images hold it, when it stands beside this program and is the same one; else this program.
fn sidecar_program(program: &Path) -> PathBuf {
    let alone = program.with_file_name("mutua-proxy");
    let version = Command::new(&alone).arg("--version").output();
    let same = format!("mutua-proxy {}\n", mutua_proxy::BUILD);
    if version.is_ok_and(|output| output.stdout == same.as_bytes()) { alone } else { program.to_owned() }
}

/// Whether another user may pass through all folders to this path.
fn others_reach(path: &Path) -> bool {
    let passable = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    path.ancestors().all(passable)
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(crate) fn address(number: u8) -> Ipv4Addr {
    let [a, b, c, _] = GATEWAY.octets();
    Ipv4Addr::new(a, b, c, number)
}

/// The hosts file of a workload: every service by all names that Kubernetes gives it there.
fn hosts_of(workload: &str) -> String {
    let own = workload.split('/').next().unwrap_or_default();
    let line = |service: &super::scenario::Service| {
        let mut names = vec![service.host.to_owned()];
        if let Some(short) = service.host.strip_suffix(".svc.cluster.local") {
            names.extend([format!("{short}.svc"), short.to_owned()]);
            names.extend(short.strip_suffix(&format!(".{own}")).map(str::to_owned));
        }
        format!("{} {}\n", Ipv4Addr::from(service.address), names.join(" "))
    };
    SERVICES.iter().map(line).collect()
}

fn routes() -> Vec<Service> {
    let of_service = |service: &'static super::scenario::Service| {
        let workload = super::scenario::workload(service.workload);
        service.ports.iter().filter_map(move |(port, target)| {
            Some(Service { frontend: (service.address.into(), *port), backend: (address(workload?.number), *target) })
        })
    };
    SERVICES.iter().flat_map(of_service).collect()
}
