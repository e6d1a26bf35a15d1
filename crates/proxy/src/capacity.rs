//! What this process may use: descriptors and memory, as the system limits them.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many descriptors as the system allows this process, and tells how many those are; `None` for any number.
pub fn take_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // A process that is not allowed what its own hard limit says keeps what it has.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// The memory that the control groups of this process allow, bytes; `None` without a limit.
#[must_use]
pub fn memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    files(&groups, Path::new("/sys/fs/cgroup")).iter().filter_map(|file| limit(file)).min()
}

/// The files that may hold a limit: of the group and of all above it, in both versions of control groups. In a container
/// the group's own path is often not visible, and the limit stands at the top.
fn files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (top, name) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|one| one == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = top.join(path.trim_start_matches('/'));
        files.extend(group.ancestors().take_while(|folder| folder.starts_with(&top)).map(|folder| folder.join(name)));
    }
    files
}

/// The number in a file; the kernel writes `max`, or a number beyond any memory, where there is no limit.
fn limit(file: &Path) -> Option<u64> {
    let number = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (number < 1 << 60).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_in_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        };
        write("memory/a/memory.limit_in_bytes", "33554432\n");
        write("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        let read = |groups: &str| files(groups, root).iter().filter_map(|file| limit(file)).min();
        assert_eq!(read("9:memory,hugetlb:/a/b\n2:cpu:/a\n"), Some(33_554_432), "of the group above");
        assert_eq!(read("9:memory:/\n"), None);
        write("memory.max", "max\n");
        write("pod/memory.max", "67108864\n");
        assert_eq!(read("0::/pod/container\n"), Some(67_108_864));
        assert_eq!(read("0::/\n"), None);
        assert_eq!(read("nonsense\n::\n"), None);
    }
}
