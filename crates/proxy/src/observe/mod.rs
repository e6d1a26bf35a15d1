//! Sees the messages of an application's protocol in the bytes that pass. It is never in their way: what it does not
//! understand it stops looking at, and the stream goes on.

/// What looks at the bytes of one connection. Owned by the connection's task; the relay hands it every byte once, just
/// before it is passed on: afterwards it may be encrypted where it stands.
#[derive(Default)]
pub enum Observer {
    /// Nothing looks.
    #[default]
    None,
}

/// Where a connection stands between its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not known, or of a protocol that does not pause.
    Unknown,
    /// Within a request, or before the next one when others are unanswered and more may follow at once.
    Busy,
    /// All that was asked is whole; answers are due. Nothing more should be read of the one who asks, if the connection
    /// is to come to rest.
    Asked,
    /// Every request is answered, and no byte of another was seen.
    Between,
}

impl Observer {
    /// Whether bytes are of interest at all.
    #[must_use]
    pub fn watches(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Bytes from the one who opened the connection, without TLS.
    pub fn received(&mut self, _bytes: &[u8]) {
        match self {
            Self::None => {}
        }
    }

    /// Bytes to the one who opened the connection, without TLS.
    pub fn sent(&mut self, _bytes: &[u8]) {
        match self {
            Self::None => {}
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self {
            Self::None => Standing::Unknown,
        }
    }
}
