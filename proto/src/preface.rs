//! The first sixteen bytes each side sends, before any RPC. Their form never changes.
//!
//! `00 "sessd"`, then version major, minor (u8), patch (u16), flags (u16), protocol (u32); all
//! big-endian. The client speaks first, and sends its first request together with its preface.
//! A daemon of another protocol answers with its own preface, does not read the request, and
//! hangs up, so both sides learn what is wrong and nothing is done.

use std::fmt;

/// Length of a preface in bytes.
pub const LENGTH: usize = 16;

/// The first byte of a preface, which tells it from the other dialects on the socket.
pub const FIRST_BYTE: u8 = MAGIC[0];

const MAGIC: &[u8; 6] = b"\0sessd";
const FLAG_BUSY: u16 = 1;

/// The program at one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// The program's version.
    pub version: Version,
    /// True for a daemon that has turns to finish: a newer client must not restart it.
    pub busy: bool,
    /// The version of its protocol, see [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
}

/// A program's version, e.g. 0.1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u8, pub u8, pub u16);

impl Version {
    /// Returns the version of this build.
    #[must_use]
    pub fn current() -> Self {
        let part = |text: &str| text.parse().unwrap_or_default();
        Self(
            part(env!("CARGO_PKG_VERSION_MAJOR")) as u8,
            part(env!("CARGO_PKG_VERSION_MINOR")) as u8,
            part(env!("CARGO_PKG_VERSION_PATCH")),
        )
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Preface {
    /// Returns the preface of this build.
    #[must_use]
    pub fn current(busy: bool) -> Self {
        Self { version: Version::current(), busy, protocol: crate::PROTOCOL_VERSION }
    }

    /// Returns the bytes to send.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..6].copy_from_slice(MAGIC);
        bytes[6] = self.version.0;
        bytes[7] = self.version.1;
        bytes[8..10].copy_from_slice(&self.version.2.to_be_bytes());
        bytes[10..12].copy_from_slice(&(u16::from(self.busy) * FLAG_BUSY).to_be_bytes());
        bytes[12..].copy_from_slice(&self.protocol.to_be_bytes());
        bytes
    }

    /// Parses a preface; `None` if the bytes are not one.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Option<Self> {
        let [_, _, _, _, _, _, major, minor, p1, p0, f1, f0, a, b, c, d] = bytes;
        bytes.starts_with(MAGIC).then(|| Self {
            version: Version(major, minor, u16::from_be_bytes([p1, p0])),
            busy: u16::from_be_bytes([f1, f0]) & FLAG_BUSY != 0,
            protocol: u32::from_be_bytes([a, b, c, d]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_never_changes() {
        let preface = Preface { version: Version(1, 2, 0x304), busy: true, protocol: 7 };
        assert_eq!(preface.to_bytes(), *b"\0sessd\x01\x02\x03\x04\0\x01\0\0\0\x07");
        assert_eq!(Preface::from_bytes(preface.to_bytes()), Some(preface));
    }

    #[test]
    fn http_is_not_a_preface() {
        assert_eq!(Preface::from_bytes(*b"GET /v1/list HTT"), None);
    }
}
