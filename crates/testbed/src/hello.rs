//! ClientHellos that no library would send, byte by byte (RFC 8446 §4.1.2).

/// A TLS 1.0 record of handshake bytes.
pub const HANDSHAKE: u8 = 22;
/// The key-exchange group X25519.
pub const X25519: u16 = 0x001d;
/// The key-exchange group P-256.
pub const SECP256R1: u16 = 0x0017;
/// The key-exchange group X25519MLKEM768.
pub const X25519MLKEM768: u16 = 0x11ec;
/// A finite-field group that nobody here speaks.
pub const FFDHE2048: u16 = 0x0100;

/// What a ClientHello says; [`Hello::default`] is one that a mesh server answers.
#[derive(Clone, Debug)]
pub struct Hello {
    /// `legacy_version`.
    pub version: u16,
    /// `supported_versions`; `None` leaves the extension out.
    pub versions: Option<Vec<u16>>,
    /// Cipher suites.
    pub suites: Vec<u16>,
    /// Key-exchange groups.
    pub groups: Vec<u16>,
    /// Key shares by group.
    pub shares: Vec<(u16, Vec<u8>)>,
    /// Application protocols.
    pub alpn: Vec<Vec<u8>>,
    /// The server name, as bytes.
    pub server_name: Option<Vec<u8>>,
    /// Further extensions, last.
    pub more: Vec<(u16, Vec<u8>)>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            version: 0x0303,
            versions: Some(vec![0x0304]),
            suites: vec![0x1301, 0x1302],
            groups: vec![X25519],
            shares: vec![(X25519, vec![9; 32])],
            alpn: vec![b"istio".to_vec()],
            server_name: None,
            more: Vec::new(),
        }
    }
}

impl Hello {
    /// The handshake message.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut put = |kind: u16, content: &[u8]| {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(vector16(content));
        };
        if let Some(name) = &self.server_name {
            put(0, &vector16(&[&[0], &vector16(name)[..]].concat()));
        }
        put(10, &vector16(&numbers(&self.groups)));
        put(13, &vector16(&numbers(&[0x0403, 0x0503, 0x0804, 0x0805, 0x0401])));
        if !self.alpn.is_empty() {
            put(16, &vector16(&self.alpn.iter().flat_map(|name| vector8(name)).collect::<Vec<_>>()));
        }
        if let Some(versions) = &self.versions {
            put(43, &vector8(&numbers(versions)));
            let share = |(group, key): &(u16, Vec<u8>)| [&group.to_be_bytes()[..], &vector16(key)].concat();
            put(51, &vector16(&self.shares.iter().flat_map(share).collect::<Vec<_>>()));
            put(45, &vector8(&[1]));
        }
        for (kind, content) in &self.more {
            put(*kind, content);
        }
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend(vector8(&[1; 32]));
        body.extend(vector16(&numbers(&self.suites)));
        body.extend(vector8(&[0]));
        body.extend(vector16(&extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &length[1..], &body].concat()
    }

    /// The message in records of at most `fragment` bytes.
    #[must_use]
    pub fn records(&self, fragment: usize) -> Vec<u8> {
        records(&self.message(), fragment)
    }
}

/// A handshake message in records of at most `fragment` bytes.
#[must_use]
pub fn records(message: &[u8], fragment: usize) -> Vec<u8> {
    message.chunks(fragment).flat_map(|piece| record(HANDSHAKE, piece)).collect()
}

/// One record.
#[must_use]
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1], &vector16(content)[..]].concat()
}

fn numbers(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn vector8(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()], content].concat()
}

fn vector16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}
