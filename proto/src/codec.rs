//! The body of a frame: bincode, reached only through tarpc's feature. Does no I/O.
//!
//! A frame is a big-endian u32 length and that many bytes. The format is named in one alias, so
//! that another one can replace it.

use std::io;
use std::pin::pin;

use serde::{Serialize, de::DeserializeOwned};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::tokio_serde::{Deserializer, Serializer};
use tokio_util::bytes::{Bytes, BytesMut};

use crate::service::DEADLINE_MS_MAX;

type Codec<Item, SinkItem> = Bincode<Item, SinkItem>;

/// The largest frame a daemon accepts, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// The largest frame a client accepts, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The text of tarpc's error for a request above the limit of a connection. Its kind does not
/// arrive: tarpc writes it as i32 and reads it as u32, which bincode encodes differently.
pub const THROTTLED: &str = "server throttled the request.";

/// The text of the daemon's error for a response above [`RESPONSE_BYTES_MAX`].
pub const TOO_LARGE: &str = "the answer is larger than 8 MiB";

/// Encodes the body of a frame.
///
/// # Errors
/// Fails if the value cannot be represented, e.g. a map without a known length.
pub fn encode<T: Serialize>(value: &T) -> io::Result<Bytes> {
    pin!(Codec::<(), T>::default()).serialize(value)
}

/// Decodes the body of a frame without checking its deadline: for responses.
///
/// # Errors
/// Fails if the bytes are not exactly one such value.
pub fn decode<T: DeserializeOwned>(body: &BytesMut) -> io::Result<T> {
    pin!(Codec::<T, ()>::default()).deserialize(body)
}

/// Decodes a request, refusing deadlines beyond [`DEADLINE_MS_MAX`].
///
/// # Errors
/// Fails if the bytes are not exactly one request, or its deadline is above the limit.
pub fn decode_request<T: DeserializeOwned>(body: &BytesMut) -> io::Result<T> {
    // tarpc adds the deadline to the current time while it decodes; a huge one panics.
    match deadline_secs(body) {
        Some(secs) if secs > DEADLINE_MS_MAX / 1000 => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the deadline is over an hour away"))
        }
        _ => decode(body),
    }
}

/// Returns the whole seconds of a request's deadline: after the variant 0, a bincode varint.
fn deadline_secs(body: &[u8]) -> Option<u64> {
    let (&0, rest) = body.split_first()? else { return None };
    let (&first, rest) = rest.split_first()?;
    let width = match first {
        0..=250 => return Some(u64::from(first)),
        251 => 2,
        252 => 4,
        253 => 8,
        _ => return Some(u64::MAX),
    };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(rest.get(..width)?);
    Some(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tarpc::{ClientMessage, Request};

    use super::*;

    fn request(deadline: Duration) -> BytesMut {
        let mut context = tarpc::context::current();
        context.deadline = Instant::now() + deadline;
        let request = ClientMessage::Request(Request { context, id: 1, message: "hello" });
        BytesMut::from(&encode(&request).unwrap()[..])
    }

    #[test]
    fn peeked_deadline_is_the_encoded_one() {
        for secs in [1, 200, 251, 3_600, 70_000, 5_000_000_000] {
            let peeked = deadline_secs(&request(Duration::from_millis(secs * 1000 + 900))).unwrap();
            assert_eq!(peeked, secs);
        }
    }

    #[test]
    fn huge_deadlines_are_refused_before_tarpc_sees_them() {
        let sane = request(Duration::from_secs(5));
        assert!(decode_request::<ClientMessage<String>>(&sane).is_ok());
        let absurd = request(Duration::from_secs(4_000));
        assert!(decode_request::<ClientMessage<String>>(&absurd).is_err());
        let mut overflowing = BytesMut::from(&[0u8, 253][..]);
        overflowing.extend_from_slice(&[0xff; 8]);
        overflowing.extend_from_slice(&sane[2..]);
        assert!(decode_request::<ClientMessage<String>>(&overflowing).is_err());
    }

    #[test]
    fn garbage_is_refused() {
        for body in [&b""[..], b"\0", b"\xff\xff\xff", b"GET / HTTP/1.1"] {
            assert!(decode_request::<ClientMessage<String>>(&BytesMut::from(body)).is_err());
        }
    }
}
