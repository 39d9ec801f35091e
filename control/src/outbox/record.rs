//! A message as octets, for the store.
//!
//! ```text
//! version  flags  expiry in ms, 8  length of the topic, 2  topic  payload
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::bus::{Publication, Qos};

/// Grows when the form changes.
const VERSION: u8 = 1;
const RETAIN: u8 = 1;
const EXPIRES: u8 = 2;

/// Only of messages that are delivered at least once.
pub(super) fn encode(publication: &Publication) -> Bytes {
    let Publication { topic, payload, .. } = publication;
    let retain = if publication.retain { RETAIN } else { 0 };
    let expires = publication.expiry.map_or(0, |_| EXPIRES);
    let expiry = publication.expiry.unwrap_or_default().as_millis();
    let expiry = u64::try_from(expiry).unwrap_or(u64::MAX);
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    let topic = topic.as_bytes().get(..usize::from(length));
    let parts: [&[u8]; 5] = [
        &[VERSION, retain | expires],
        &expiry.to_be_bytes(),
        &length.to_be_bytes(),
        topic.unwrap_or_default(),
        payload,
    ];
    parts.concat().into()
}

/// None: it is not one of ours.
pub(super) fn decode(record: &[u8]) -> Option<Publication> {
    let (&[version, flags], rest) = record.split_first_chunk::<2>()?;
    if version != VERSION {
        return None;
    }
    let (expiry, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (topic, payload) = rest.split_at_checked(length)?;
    let expiry = Duration::from_millis(u64::from_be_bytes(*expiry));
    Some(Publication {
        topic: str::from_utf8(topic).ok()?.to_owned(),
        payload: Bytes::copy_from_slice(payload),
        qos: Qos::AtLeastOnce,
        retain: flags & RETAIN != 0,
        expiry: (flags & EXPIRES != 0).then_some(expiry),
    })
}
