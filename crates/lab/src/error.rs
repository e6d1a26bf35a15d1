//! What can go wrong with the laboratory.

use std::io;

/// Why the laboratory could not do something.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system call failed.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// This machine does not let us make namespaces.
    #[error(
        "this user may not make network namespaces here ({why}); run as root, or allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    NoNamespaces {
        /// What the kernel said.
        why: String,
    },
    /// A command that the laboratory needs is not installed.
    #[error("{tool} is not installed: {remedy}")]
    Missing {
        /// The command.
        tool: String,
        /// The line that installs it.
        remedy: String,
    },
    /// A command failed.
    #[error("{command}: {message}")]
    Command {
        /// The command line.
        command: String,
        /// Its own words.
        message: String,
    },
    /// There is no host of that name.
    #[error("there is no host {0} in this network")]
    NoHost(String),
}

/// Puts what was being done in front of an operating system's error.
pub(crate) fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> LabError {
    let what = what.into();
    move |source| LabError::System { doing: what, source: source.into() }
}
