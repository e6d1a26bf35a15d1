//! What a workload accepts.

use std::collections::BTreeMap;

use mutua_model::MtlsMode;
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, QueryError};
use crate::trace::Step;

/// What a workload accepts, port by port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadAnswer {
    /// `NAMESPACE/NAME`.
    pub workload: String,
    /// Whether it has a sidecar; without one, `mode` is what the policies compose to.
    pub sidecar: bool,
    /// On every port that is not listed.
    pub mode: MtlsMode,
    /// Every known port.
    pub ports: BTreeMap<u16, MtlsMode>,
    /// Ports whose server speaks first, so that a silent caller without TLS is greeted, as the workload's sidecar has
    /// learned. No rule: only a control plane that hears of it fills it in.
    #[serde(rename = "serverFirst", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_first: BTreeMap<u16, ServerFirst>,
    /// Why.
    pub trace: Vec<Step>,
    /// What can be done where it is weaker, or does less, than one may think.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
}

/// What was learned of a port whose server speaks first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerFirst {
    /// Callers that were greeted first at their last connection.
    pub callers: u32,
    /// Those of them that are not waited for any more at length.
    pub learned_callers: u32,
}

impl Engine {
    /// What a workload accepts.
    ///
    /// # Errors
    /// No workload, or several, have that name.
    pub fn explain_workload(&self, name: &str) -> Result<WorkloadAnswer, QueryError> {
        let at = self.position(name)?;
        let (workload, effective) = (&self.workloads()[at], self.accepts(at));
        let ports: BTreeMap<u16, MtlsMode> =
            self.known_ports(workload).into_keys().map(|port| (port, effective.on(port))).collect();
        let mut trace = effective.trace();
        trace.extend(ports.keys().filter_map(|port| effective.port_step(*port)));
        if !workload.sidecar {
            trace.push(Step::of_default("sidecar.none", "no sidecar: nothing enforces this mode, plaintext reaches it"));
        }
        let help = self.workload_help(at, &trace);
        Ok(WorkloadAnswer {
            workload: workload.full_name(),
            sidecar: workload.sidecar,
            mode: effective.mode,
            ports,
            server_first: BTreeMap::new(),
            trace,
            help,
        })
    }
}
