//! What a workload joins with.

use std::path::{Path, PathBuf};

/// A join token. That of a Kubernetes service account is exchanged by the kubelet before it ends, in the same file.
#[derive(Clone)]
pub struct Token {
    first: String,
    file: Option<PathBuf>,
}

impl Token {
    /// The token of a file, whose text at the start this is: later the process may be another user, who need not be able to
    /// read it.
    #[must_use]
    pub fn of_file(file: &Path, text: &str) -> Self {
        Self { first: text.trim().to_owned(), file: Some(file.to_owned()) }
    }

    /// The token as it stands in the file now; that of the start when there is none any more.
    pub async fn now(&self) -> String {
        let Some(file) = &self.file else { return self.first.clone() };
        let text = tokio::fs::read_to_string(file).await.unwrap_or_default();
        if text.trim().is_empty() { self.first.clone() } else { text.trim().to_owned() }
    }
}

impl From<String> for Token {
    fn from(first: String) -> Self {
        Self { first, file: None }
    }
}

/// Nobody is to read it in a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_is_read_anew_and_the_first_token_outlives_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "one\n").unwrap();
        let token = Token::of_file(&file, "one\n");
        assert_eq!(token.now().await, "one");
        std::fs::write(&file, "two\n").unwrap();
        assert_eq!(token.now().await, "two");
        std::fs::write(&file, "").unwrap();
        assert_eq!(token.now().await, "one");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(token.now().await, "one");
        assert!(!format!("{token:?}").contains("one"));
    }
}
