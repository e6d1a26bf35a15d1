//! The records of TLS 1.3 after the handshake (RFC 8446 §5), encrypted and decrypted where they stand.
//!
//! The library's own record layer allocates and copies each record twice on its way. Here the caller's buffer is the only
//! one: the library makes the handshake and the first keys, and hands them out as for kernel TLS (`rustls::kernel`); those of
//! key updates come from its secrets ([`Secret`]). The AEAD runs over the caller's bytes in place.

use std::ops::Range;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets};

use super::secrets::{Secret, Secrets};
use super::{TlsError, TlsErrorKind};

/// Most plaintext of one record (§5.1).
pub const FRAGMENT: usize = 16 * 1024;
/// Bytes of a record before its content.
pub(super) const PREFIX: usize = 5;
/// Bytes of a record behind its content: the content type and the tag of the AEAD.
pub(super) const SUFFIX: usize = 1 + TAG;
/// A full record; content stands in such steps in a buffer that is sealed in place.
pub(super) const STRIDE: usize = PREFIX + FRAGMENT + SUFFIX;

const TAG: usize = 16;
/// The longest key of a cipher suite, AES-256's.
const LONGEST_KEY: usize = 32;
/// Most ciphertext of one record (§5.2).
const MAX_CIPHERTEXT: usize = FRAGMENT + 256;
/// Records that one key encrypts before the next one is taken: below the limit of AES-GCM for a safety margin (§5.5).
const MAX_RECORDS: u64 = 1 << 23;
/// Records in a row that carry no application data; more are no honest peer's.
const MAX_QUIET: u32 = 64;
/// Bytes of an incomplete handshake message; tickets have some hundred.
const MAX_MESSAGE: usize = 64 * 1024;

const CONTENT_ALERT: u8 = 21;
const CONTENT_HANDSHAKE: u8 = 22;
const CONTENT_DATA: u8 = 23;
const MESSAGE_TICKET: u8 = 4;
const MESSAGE_KEY_UPDATE: u8 = 24;

/// Both directions of an established TLS 1.3 connection.
pub(super) struct Records {
    receive: Half,
    transmit: Half,
    /// Records that the key for sending may still encrypt.
    left: u64,
    /// Whether this is the calling side.
    client: bool,
    /// An incomplete handshake message.
    message: Vec<u8>,
    quiet: u32,
    /// A key update that the peer asked for. Several that it asks for meanwhile are answered by one (§4.6.3).
    owed: bool,
}

/// What came with some records.
#[derive(Debug)]
pub(super) struct Opened {
    /// Bytes that were used.
    pub used: usize,
    /// Whether the peer ended its direction.
    pub closed: bool,
}

impl Records {
    /// Takes over from the library. `client`: this is the calling side.
    pub fn new(keys: ExtractedSecrets, secrets: Secrets, client: bool) -> Result<Self, TlsError> {
        let ExtractedSecrets { tx, rx } = keys;
        let (ours, theirs) = if client { (secrets.client, secrets.server) } else { (secrets.server, secrets.client) };
        let (receive, transmit) = (Half::new(rx, theirs)?, Half::new(tx, ours)?);
        Ok(Self { receive, transmit, left: MAX_RECORDS, client, message: Vec::new(), quiet: 0, owed: false })
    }

    /// Decrypts the complete records in `incoming` in place, and adds where their content stands to `pieces`.
    ///
    /// # Errors
    /// With the alert to be sent, if one is.
    pub fn open(&mut self, incoming: &mut [u8], pieces: &mut Vec<Range<usize>>) -> Result<Opened, (TlsError, Option<u8>)> {
        let mut used = 0;
        while let [kind, _, _, high, low, ..] = incoming[used..] {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if kind != CONTENT_DATA {
                return Err(unexpected("a record that is not encrypted"));
            }
            if length > MAX_CIPHERTEXT {
                return Err(fault(Error::PeerSentOversizedRecord, AlertDescription::RecordOverflow));
            }
            let start = used + PREFIX;
            let (head, rest) = incoming.split_at_mut(start);
            let Some(record) = rest.get_mut(..length) else { break };
            let (content, length_of_content) = self.receive.open(&head[used..], record)?;
            used = start + length;
            match self.take(content, &record[..length_of_content])? {
                Taken::Data if length_of_content > 0 => pieces.push(start..start + length_of_content),
                Taken::Data | Taken::Nothing => {}
                Taken::End => return Ok(Opened { used: incoming.len(), closed: true }),
            }
        }
        Ok(Opened { used, closed: false })
    }

    fn take(&mut self, kind: u8, content: &[u8]) -> Result<Taken, (TlsError, Option<u8>)> {
        if kind == CONTENT_DATA && !content.is_empty() {
            self.quiet = 0;
        } else {
            self.quiet += 1;
            if self.quiet > MAX_QUIET {
                return Err(unexpected("too many records without data"));
            }
        }
        if kind != CONTENT_HANDSHAKE && !self.message.is_empty() {
            return Err(unexpected("another record within a handshake message"));
        }
        match (kind, content) {
            (CONTENT_DATA, _) => Ok(Taken::Data),
            (CONTENT_ALERT, [_, description]) => alert(AlertDescription::from(*description)),
            (CONTENT_ALERT, _) => Err(malformed("an alert of a wrong length")),
            (CONTENT_HANDSHAKE, []) => Err(unexpected("an empty handshake record")),
            (CONTENT_HANDSHAKE, _) => {
                self.message.extend_from_slice(content);
                self.messages().map(|()| Taken::Nothing)
            }
            _ => Err(unexpected("a record of unknown content")),
        }
    }

    /// The complete handshake messages that have arrived.
    fn messages(&mut self) -> Result<(), (TlsError, Option<u8>)> {
        let message = std::mem::take(&mut self.message);
        let mut rest = &message[..];
        while let [kind, a, b, c, body @ ..] = rest {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > MAX_MESSAGE {
                return Err(malformed("a handshake message that is too long"));
            }
            let Some((body, behind)) = body.split_at_checked(length) else { break };
            rest = behind;
            match (*kind, body) {
                // Resumption is off: tickets are of no use.
                (MESSAGE_TICKET, _) if self.client => {}
                // The key changes behind it, so it ends its record (§5.1).
                (MESSAGE_KEY_UPDATE, [request @ (0 | 1)]) if rest.is_empty() => {
                    self.receive.update().map_err(|error| (error, Some(AlertDescription::InternalError.into())))?;
                    self.owed |= *request == 1;
                }
                (MESSAGE_KEY_UPDATE, ..) => return Err(malformed("a malformed key update")),
                _ => return Err(unexpected("a handshake message after the handshake")),
            }
        }
        self.message = rest.to_vec();
        Ok(())
    }

    /// Whether a key update is to be sent before anything else.
    pub fn owes(&self) -> bool {
        self.owed
    }

    /// Appends the key update that is owed.
    pub fn pay(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if std::mem::take(&mut self.owed) {
            self.update_key(out)?;
        }
        Ok(())
    }

    fn update_key(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.append(CONTENT_HANDSHAKE, &[MESSAGE_KEY_UPDATE, 0, 0, 1, 0], out)?;
        self.transmit.update()?;
        self.left = MAX_RECORDS;
        Ok(())
    }

    /// Encrypts content that stands in `buffer` in steps of [`STRIDE`], [`FRAGMENT`] bytes behind each [`PREFIX`]; all
    /// but the last are full, `length` bytes together. Returns how many bytes of `buffer` are to be sent.
    pub fn seal(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, TlsError> {
        let mut end = 0;
        for (at, slot) in buffer.chunks_mut(STRIDE).take(length.div_ceil(FRAGMENT)).enumerate() {
            let content = FRAGMENT.min(length - at * FRAGMENT);
            self.transmit.seal(CONTENT_DATA, slot, content)?;
            end += PREFIX + content + SUFFIX;
        }
        self.wear(length);
        Ok(end)
    }

    /// Encrypts `plain` into records that are appended to `out`.
    pub fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        for fragment in plain.chunks(FRAGMENT) {
            self.append(CONTENT_DATA, fragment, out)?;
        }
        self.wear(plain.len());
        Ok(())
    }

    /// A key that is worn out is owed a successor.
    fn wear(&mut self, length: usize) {
        self.left = self.left.saturating_sub(length.div_ceil(FRAGMENT) as u64);
        self.owed |= self.left == 0;
    }

    #[cfg(test)]
    pub fn wear_out(&mut self) {
        self.left = 1;
    }

    /// Appends an alert.
    pub fn alert(&mut self, description: AlertDescription, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let level = if description == AlertDescription::CloseNotify { 1 } else { 2 };
        self.append(CONTENT_ALERT, &[level, description.into()], out)
    }

    fn append(&mut self, kind: u8, content: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        out.extend_from_slice(content);
        out.extend_from_slice(&[0; SUFFIX]);
        self.transmit.seal(kind, &mut out[start..], content.len())
    }
}

enum Taken {
    Data,
    Nothing,
    End,
}

/// One direction: its key, the number of its next record, and what the next key comes from.
struct Half {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    secret: Secret,
}

impl Half {
    fn new((sequence, keys): (u64, ConnectionTrafficSecrets), secret: Option<Secret>) -> Result<Self, TlsError> {
        let (algorithm, key, iv) = match &keys {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(TlsError::new(TlsErrorKind::Configuration, "a cipher suite that is not known here")),
        };
        let missing = || TlsError::new(TlsErrorKind::Configuration, "the library did not tell its secrets");
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(iv.as_ref());
        Ok(Self { key: aead(algorithm, key.as_ref())?, iv: nonce, sequence, secret: secret.ok_or_else(missing)? })
    }

    /// Takes the next key (§7.2). The cipher suite stays.
    fn update(&mut self) -> Result<(), TlsError> {
        let secret = self.secret.next()?;
        let algorithm = self.key.algorithm();
        let (mut key, mut iv) = ([0; LONGEST_KEY], [0; NONCE_LEN]);
        let key = &mut key[..algorithm.key_len()];
        secret.expand("key", key)?;
        secret.expand("iv", &mut iv)?;
        *self = Self { key: aead(algorithm, key)?, iv, sequence: 0, secret };
        Ok(())
    }

    /// The nonce of the next record (§5.3). A number is never used twice: it is counted up before the AEAD runs.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Decrypts a record; returns what it holds and how much of it.
    fn open(&mut self, header: &[u8], record: &mut [u8]) -> Result<(u8, usize), (TlsError, Option<u8>)> {
        let nonce = self.nonce();
        let inner = self.key.open_in_place(nonce, Aad::from(header), record);
        let inner = inner.map_err(|_| fault(Error::DecryptError, AlertDescription::BadRecordMac))?;
        // Zeros behind the content type are padding.
        let Some(end) = inner.iter().rposition(|byte| *byte != 0) else { return Err(unexpected("a record without content")) };
        if end > FRAGMENT {
            return Err(fault(Error::PeerSentOversizedRecord, AlertDescription::RecordOverflow));
        }
        Ok((inner[end], end))
    }

    /// Encrypts `length` bytes of content that stand behind the prefix in `slot`.
    fn seal(&mut self, kind: u8, slot: &mut [u8], length: usize) -> Result<(), TlsError> {
        let size = u16::try_from(length + SUFFIX).unwrap_or(u16::MAX).to_be_bytes();
        let header = [CONTENT_DATA, 3, 3, size[0], size[1]];
        slot[..PREFIX].copy_from_slice(&header);
        let (content, behind) = slot[PREFIX..].split_at_mut(length + 1);
        content[length] = kind;
        let nonce = self.nonce();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), content);
        let tag = tag.map_err(|_| TlsError::new(TlsErrorKind::Configuration, "a record cannot be encrypted"))?;
        behind[..TAG].copy_from_slice(tag.as_ref());
        Ok(())
    }
}

fn aead(algorithm: &'static Algorithm, key: &[u8]) -> Result<LessSafeKey, TlsError> {
    let key = UnboundKey::new(algorithm, key);
    let unusable = |_| TlsError::new(TlsErrorKind::Configuration, "the keys do not fit the cipher suite");
    Ok(LessSafeKey::new(key.map_err(unusable)?))
}

fn alert(description: AlertDescription) -> Result<Taken, (TlsError, Option<u8>)> {
    match description {
        AlertDescription::CloseNotify => Ok(Taken::End),
        AlertDescription::UserCanceled => Ok(Taken::Nothing),
        description => Err((Error::AlertReceived(description).into(), None)),
    }
}

fn fault(error: Error, alert: AlertDescription) -> (TlsError, Option<u8>) {
    (error.into(), Some(alert.into()))
}

fn unexpected(detail: &str) -> (TlsError, Option<u8>) {
    (TlsError::new(TlsErrorKind::Malformed, detail), Some(AlertDescription::UnexpectedMessage.into()))
}

fn malformed(detail: &str) -> (TlsError, Option<u8>) {
    (TlsError::new(TlsErrorKind::Malformed, detail), Some(AlertDescription::DecodeError.into()))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
