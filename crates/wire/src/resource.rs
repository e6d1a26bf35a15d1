//! What every mesh resource has: a type URL, and a version that is a hash of its encoding.

use std::fmt::Debug;

use prost::Message;
use prost_types::Any;
use sha2::{Digest, Sha256};

use crate::mesh::{Destination, InboundPolicy, PeerWorkload, ProxySettings, TrustBundle};

/// A message that travels as a discovery resource.
pub trait MeshResource: Message + Debug + Default + Clone + PartialEq + Send + Sync + 'static {
    /// The type URL (`type.googleapis.com/mutua.mesh.v1.…`).
    const TYPE_URL: &'static str;

    /// Packs the message for a discovery response.
    fn pack(&self) -> Any {
        Any { type_url: Self::TYPE_URL.to_owned(), value: self.encode_to_vec() }
    }

    /// Reads a message out of a discovery resource.
    ///
    /// # Errors
    /// Bytes that are no message of this type, or another type URL.
    fn unpack(any: &Any) -> Result<Self, UnpackError> {
        if any.type_url != Self::TYPE_URL {
            return Err(UnpackError::WrongType { expected: Self::TYPE_URL, found: any.type_url.clone() });
        }
        Self::decode(any.value.as_slice()).map_err(UnpackError::Malformed)
    }
}

/// Why a discovery resource could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The resource is of another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The type that was asked for.
        expected: &'static str,
        /// The type URL of the resource.
        found: String,
    },
    /// The bytes are no message of this type.
    #[error("malformed resource: {0}")]
    Malformed(prost::DecodeError),
}

macro_rules! resources {
    ($($message:ident),*) => {$(
        impl MeshResource for $message {
            const TYPE_URL: &'static str = concat!("type.googleapis.com/mutua.mesh.v1.", stringify!($message));
        }
    )*};
}

resources!(InboundPolicy, Destination, TrustBundle, ProxySettings, PeerWorkload);

/// The version of a resource: the first 16 hex digits of the SHA-256 of its encoding, so that replicas and
/// restarts agree without a counter.
#[must_use]
pub fn content_version(encoded: &[u8]) -> String {
    let digest = Sha256::digest(encoded);
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
