//! Frames as they are written: JSON, the documents in them to the octet.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::frame::{Body, CatchUp, Change, Document, Frame, Id, Mark};
use super::{CHANGES_MAX, DOCUMENTS_MAX, MEMBERS_MAX, PATH_MAX};
use crate::bus::topic::is_id;

/// A frame larger than this is none.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The version of what is written here.
pub const VERSION: u32 = 1;
const CODE: &str = "home_unreachable";

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Longer than [`FRAME_BYTES_MAX`].
    TooLong,
    /// Not JSON, or a member is missing or of another type.
    NotWritten,
    /// Of another version.
    Version,
    /// No id as ids are.
    Id,
    /// More servers, documents or changes than there may be.
    TooMany,
    /// Of a type that is not known.
    Unknown,
}

#[derive(Deserialize, Serialize)]
struct Envelope<T> {
    v: u32,
    #[serde(rename = "type")]
    kind: String,
    id: String,
    path: Vec<String>,
    data: T,
}

/// Whatever a frame may hold, by its type.
#[derive(Default, Deserialize, Serialize)]
struct Data {
    cid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    re: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<Vec<Doc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Step>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    there: Option<bool>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct At {
    epoch: u64,
    rev: u64,
    seq: u64,
}

#[derive(Deserialize, Serialize)]
struct Doc {
    part: String,
    /// None: forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<Box<RawValue>>,
}

#[derive(Deserialize, Serialize)]
struct Step {
    at: At,
    docs: Vec<Doc>,
}

/// Writes a frame.
///
/// # Errors
/// A document in it is not JSON, or it becomes too long.
pub fn encode(frame: &Frame) -> Result<Bytes, Malformed> {
    let (kind, data) = data(&frame.body)?;
    let envelope = Envelope {
        v: VERSION,
        kind: kind.to_owned(),
        id: frame.id.to_string(),
        path: frame.path.clone(),
        data,
    };
    let text = serde_json::to_vec(&envelope).map_err(|_| Malformed::NotWritten)?;
    if text.len() > FRAME_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    Ok(text.into())
}

fn data(body: &Body) -> Result<(&'static str, Data), Malformed> {
    let mut data = Data {
        cid: body.cid().to_owned(),
        ..Data::default()
    };
    let kind = match body {
        Body::Members {
            version, members, ..
        } => {
            data.at = Some(At::from(*version));
            data.members = Some(members.clone());
            "x.members"
        }
        Body::Change { change, .. } => {
            data.kind = Some("evt".to_owned());
            data.at = Some(At::from(change.mark));
            data.docs = Some(docs(&change.documents)?);
            "x.forward"
        }
        Body::Command { document, .. } => {
            data.kind = Some("cmd".to_owned());
            data.msg = raw(document)?;
            "x.forward"
        }
        Body::Attend { document, .. } => {
            data.kind = Some("who".to_owned());
            data.msg = raw(document)?;
            "x.forward"
        }
        Body::Answer {
            to, re, document, ..
        } => {
            data.kind = Some("rsp".to_owned());
            (data.to, data.re) = (Some(to.clone()), Some(re.to_string()));
            data.msg = raw(document)?;
            "x.forward"
        }
        Body::Refused { to, re, .. } => {
            (data.to, data.re) = (Some(to.clone()), Some(re.to_string()));
            data.code = Some(CODE.to_owned());
            "x.refused"
        }
        Body::Ask { have, .. } => {
            data.at = have.map(At::from);
            "x.snapshot_request"
        }
        Body::Snapshot { to, catch_up, .. } => {
            data.to = Some(to.clone());
            match catch_up {
                CatchUp::Nothing => {}
                CatchUp::Changes(changes) => {
                    let steps: Result<Vec<Step>, _> = changes.iter().map(step).collect();
                    data.changes = Some(steps?);
                }
                CatchUp::State(state) => data.state = Some(step(state)?),
            }
            "x.snapshot"
        }
        Body::Reach { sid, there, .. } => {
            (data.sid, data.there) = (Some(sid.clone()), Some(*there));
            "x.reach"
        }
    };
    Ok((kind, data))
}

fn docs(documents: &[Document]) -> Result<Vec<Doc>, Malformed> {
    let doc = |document: &Document| {
        Ok(Doc {
            part: document.part.clone(),
            msg: raw(&document.payload)?,
        })
    };
    documents.iter().map(doc).collect()
}

fn step(change: &Change) -> Result<Step, Malformed> {
    Ok(Step {
        at: At::from(change.mark),
        docs: docs(&change.documents)?,
    })
}

fn raw(document: &Bytes) -> Result<Option<Box<RawValue>>, Malformed> {
    if document.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(document).map_err(|_| Malformed::NotWritten)?;
    let raw = RawValue::from_string(text.to_owned()).map_err(|_| Malformed::NotWritten)?;
    Ok(Some(raw))
}

/// Reads a frame.
///
/// # Errors
/// It is none.
pub fn decode(text: &[u8]) -> Result<Frame, Malformed> {
    if text.len() > FRAME_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let envelope: Envelope<Data> =
        serde_json::from_slice(text).map_err(|_| Malformed::NotWritten)?;
    if envelope.v != VERSION {
        return Err(Malformed::Version);
    }
    // One more than may be, so that it is said what is wrong with it.
    if envelope.path.len() > PATH_MAX + 1 {
        return Err(Malformed::TooMany);
    }
    let ids = envelope.path.iter().chain([&envelope.data.cid]);
    if !ids.into_iter().all(|id| is_id(id)) {
        return Err(Malformed::Id);
    }
    Ok(Frame {
        id: id(&envelope.id)?,
        path: envelope.path,
        body: body(&envelope.kind, envelope.data)?,
    })
}

fn body(kind: &str, data: Data) -> Result<Body, Malformed> {
    let cid = data.cid;
    let kind = match (kind, data.kind.as_deref()) {
        ("x.forward", Some(kind @ ("evt" | "cmd" | "who" | "rsp"))) => kind,
        ("x.forward" | "evt" | "cmd" | "who" | "rsp", _) => return Err(Malformed::Unknown),
        (kind, _) => kind,
    };
    Ok(match kind {
        "x.members" => Body::Members {
            cid,
            version: need(data.at)?.into(),
            members: sids(need(data.members)?)?,
        },
        "evt" => Body::Change {
            cid,
            change: Change {
                mark: need(data.at)?.into(),
                documents: documents(need(data.docs)?)?,
            },
        },
        "cmd" => Body::Command {
            cid,
            document: octets(need(data.msg)?.as_ref()),
        },
        "who" => Body::Attend {
            cid,
            document: octets(need(data.msg)?.as_ref()),
        },
        "rsp" => Body::Answer {
            cid,
            to: sid(need(data.to)?)?,
            re: id(&need(data.re)?)?,
            document: octets(need(data.msg)?.as_ref()),
        },
        "x.refused" => Body::Refused {
            cid,
            to: sid(need(data.to)?)?,
            re: id(&need(data.re)?)?,
        },
        "x.snapshot_request" => Body::Ask {
            cid,
            have: data.at.map(Mark::from),
        },
        "x.snapshot" => Body::Snapshot {
            cid,
            to: sid(need(data.to)?)?,
            catch_up: match (data.changes, data.state) {
                (None, None) => CatchUp::Nothing,
                (Some(changes), _) if changes.len() > CHANGES_MAX => {
                    return Err(Malformed::TooMany);
                }
                (Some(changes), _) => {
                    let changes: Result<_, _> = changes.into_iter().map(change).collect();
                    CatchUp::Changes(changes?)
                }
                (None, Some(state)) => CatchUp::State(change(state)?),
            },
        },
        "x.reach" => Body::Reach {
            cid,
            sid: sid(need(data.sid)?)?,
            there: need(data.there)?,
        },
        _ => return Err(Malformed::Unknown),
    })
}

fn need<T>(member: Option<T>) -> Result<T, Malformed> {
    member.ok_or(Malformed::NotWritten)
}

fn id(text: &str) -> Result<Id, Malformed> {
    text.parse().map_err(|_| Malformed::Id)
}

fn sid(text: String) -> Result<String, Malformed> {
    is_id(&text).then_some(text).ok_or(Malformed::Id)
}

fn sids(texts: Vec<String>) -> Result<Vec<String>, Malformed> {
    if texts.len() > MEMBERS_MAX {
        return Err(Malformed::TooMany);
    }
    texts.into_iter().map(sid).collect()
}

fn change(step: Step) -> Result<Change, Malformed> {
    Ok(Change {
        mark: step.at.into(),
        documents: documents(step.docs)?,
    })
}

fn documents(docs: Vec<Doc>) -> Result<Vec<Document>, Malformed> {
    if docs.len() > DOCUMENTS_MAX {
        return Err(Malformed::TooMany);
    }
    let document = |doc: Doc| Document {
        part: doc.part,
        payload: doc.msg.as_deref().map(octets).unwrap_or_default(),
    };
    Ok(docs.into_iter().map(document).collect())
}

fn octets(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

impl From<Mark> for At {
    fn from(Mark { epoch, rev, seq }: Mark) -> Self {
        Self { epoch, rev, seq }
    }
}

impl From<At> for Mark {
    fn from(At { epoch, rev, seq }: At) -> Self {
        Self { epoch, rev, seq }
    }
}

#[cfg(test)]
mod tests;
