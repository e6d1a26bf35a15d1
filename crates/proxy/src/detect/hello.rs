//! A bounded, incremental reader of the ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2) over TLS records (§5.1).
//! It reads what decides how a connection is served and leaves every check of security to the TLS library.

/// The most bytes of first records that are looked at. A hello with post-quantum key shares and a ticket has 2.6 KB.
pub const MAX_HELLO: usize = 16 * 1024;
const RECORD_HEADER: usize = 5;
/// The first byte of a handshake record, so of every TLS connection (RFC 8446 §5.1).
pub const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The largest fragment of a plaintext record (RFC 8446 §5.1).
const MAX_FRAGMENT: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name asked for.
    pub server_name: Option<String>,
    /// The application protocols offered, in order.
    pub alpn: Vec<Vec<u8>>,
    /// The protocol versions offered: of the extension, else the one of the message.
    pub versions: Vec<u16>,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// They begin a ClientHello; more are needed.
    NeedMore,
    /// They begin no ClientHello.
    NotTls,
    /// They hold a whole ClientHello.
    Complete(ClientHello),
    /// They announce more than [`MAX_HELLO`].
    TooLarge,
}

/// Reads a ClientHello from the first bytes of a connection. Any prefix of a well-formed ClientHello gives
/// [`Hello::NeedMore`]; the answer for a longer input never contradicts a decided one.
#[must_use]
pub fn parse(bytes: &[u8]) -> Hello {
    Reader::default().read(bytes)
}

/// Reads a ClientHello as its bytes come. A caller that sends them one by one costs no more than one that sends them at
/// once.
#[derive(Debug, Default)]
pub struct Reader {
    /// The handshake message, without the headers of records.
    joined: Vec<u8>,
    /// How many bytes were looked at.
    at: usize,
    /// How many of the record's bytes are still to come.
    left: usize,
}

impl Reader {
    /// As [`parse`], of `bytes` that begin with those of the last call, which answered [`Hello::NeedMore`].
    pub fn read(&mut self, bytes: &[u8]) -> Hello {
        loop {
            if self.left == 0 {
                match record(&bytes[self.at..]) {
                    Err(undecided) => return undecided,
                    Ok(announced) => (self.at, self.left) = (self.at + RECORD_HEADER, announced),
                }
            }
            let there = self.left.min(bytes.len() - self.at);
            self.joined.extend_from_slice(&bytes[self.at..self.at + there]);
            (self.at, self.left) = (self.at + there, self.left - there);
            if let Some(decided) = self.message() {
                return decided;
            }
            if self.at >= 2 * MAX_HELLO {
                return Hello::TooLarge;
            }
            if self.left > 0 {
                return Hello::NeedMore;
            }
        }
    }

    /// What the message is, once that can be said.
    fn message(&self) -> Option<Hello> {
        if self.joined.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Some(Hello::NotTls);
        }
        let [_, a, b, c, body @ ..] = self.joined.as_slice() else { return None };
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if length > MAX_HELLO {
            return Some(Hello::TooLarge);
        }
        let whole = body.get(..length)?;
        Some(hello(whole).map_or(Hello::NotTls, Hello::Complete))
    }
}

/// The length of a record of handshake bytes, from its header, whose minor version is to be ignored (RFC 8446 §5.1).
fn record(bytes: &[u8]) -> Result<usize, Hello> {
    let expected = |at: usize, fits: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| fits(*byte));
    if !expected(0, |byte| byte == HANDSHAKE) || !expected(1, |byte| byte == 3) {
        return Err(Hello::NotTls);
    }
    let [_, _, _, high, low, ..] = bytes else { return Err(Hello::NeedMore) };
    let announced = usize::from(*high) << 8 | usize::from(*low);
    if announced == 0 || announced > MAX_FRAGMENT {
        return Err(Hello::NotTls);
    }
    Ok(announced)
}

fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut input = Input(body);
    let version = input.u16()?;
    input.take(32)?;
    input.vector8()?;
    input.vector16()?;
    input.vector8()?;
    let mut hello = ClientHello { versions: vec![version], ..ClientHello::default() };
    if input.0.is_empty() {
        // Without extensions, as TLS 1.2 allows.
        return Some(hello);
    }
    let mut extensions = Input(input.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = Input(extensions.vector16()?);
        match kind {
            SERVER_NAME => hello.server_name = server_name(content)?,
            ALPN => hello.alpn = alpn(content)?,
            SUPPORTED_VERSIONS => hello.versions = versions(content)?,
            _ => {}
        }
    }
    Some(hello)
}

fn server_name(mut content: Input<'_>) -> Option<Option<String>> {
    let mut names = Input(content.vector16()?);
    while !names.0.is_empty() {
        let kind = names.u8()?;
        let name = names.vector16()?;
        if kind == 0 {
            return Some(std::str::from_utf8(name).ok().map(str::to_owned));
        }
    }
    Some(None)
}

fn alpn(mut content: Input<'_>) -> Option<Vec<Vec<u8>>> {
    let mut names = Input(content.vector16()?);
    let mut found = Vec::new();
    while !names.0.is_empty() {
        found.push(names.vector8()?.to_vec());
    }
    Some(found)
}

fn versions(mut content: Input<'_>) -> Option<Vec<u16>> {
    let mut list = Input(content.vector8()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        found.push(list.u16()?);
    }
    Some(found)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let count = self.u8()?;
        self.take(usize::from(count))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
