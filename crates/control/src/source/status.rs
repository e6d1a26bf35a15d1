//! The status of the configuration as a file of the state folder: `status.json`.

use std::sync::Arc;

use super::{Sink, SinkError, Status};
use crate::state::{PRIVATE, StateDir};

/// The file's name.
pub const FILE: &str = "status.json";

/// Writes the status to [`FILE`].
#[derive(Debug)]
pub struct StatusFile {
    state: Arc<StateDir>,
}

impl StatusFile {
    /// A sink into this state folder.
    #[must_use]
    pub fn new(state: Arc<StateDir>) -> Self {
        Self { state }
    }
}

impl Sink for StatusFile {
    async fn write(&self, status: &Status) -> Result<(), SinkError> {
        let content = serde_json::to_vec_pretty(status).expect("a status of strings and numbers has a JSON form");
        self.state.write(FILE, &content, PRIVATE).map_err(|error| SinkError(error.into()))
    }
}
