//! The vocabulary of the route table: what an operation is, whom it takes, and what it answers.
//! Each part of the API has a list of them beside its handlers; `route` joins the lists. Who may
//! do what, the OpenAPI document and the audit log follow from the list alone.

use axum::routing::MethodRouter;

use super::Api;
use super::error::Problem;

/// One operation. A list is written with [`VIEW`] or [`CHANGE`] behind what differs.
pub(in crate::shell) struct Route {
    pub(in crate::shell) verb: Verb,
    pub(in crate::shell) path: &'static str,
    /// Who may; each role may what those before it may.
    pub(in crate::shell) role: Role,
    /// What it does, in a sentence without its stop.
    pub(in crate::shell) about: &'static str,
    /// Parameters of the query; those of the path are in the path.
    pub(in crate::shell) query: &'static [Parameter],
    /// What is sent with it.
    pub(in crate::shell) body: Body,
    pub(in crate::shell) answer: Answer,
    /// Refusals of its own, beside those that any operation has.
    pub(in crate::shell) refuses: &'static [Problem],
    pub(in crate::shell) if_match: IfMatch,
    pub(in crate::shell) handler: fn() -> MethodRouter<Api>,
}

/// Whether the entity tag of what is changed is asked for (RFC 9110 §13.1.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum IfMatch {
    /// There is no tag.
    Never,
    /// If it is sent, it counts.
    May,
    Must,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::shell) enum Verb {
    Get,
    Put,
    Post,
    Patch,
    Delete,
}

impl Verb {
    pub(in crate::shell) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may. Later ones may more.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::shell) enum Role {
    /// Whoever can connect.
    Anyone,
    /// Sees.
    Viewer,
    /// Also orders what calls and the traffic of the day take.
    Operator,
    /// Also decides what the daemon is: its configuration, who may do what.
    Admin,
}

impl Role {
    pub(in crate::shell) fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A parameter of the query.
pub(in crate::shell) struct Parameter {
    pub(in crate::shell) name: &'static str,
    pub(in crate::shell) kind: Kind,
    pub(in crate::shell) required: bool,
    pub(in crate::shell) about: &'static str,
}

/// What a parameter is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum Kind {
    Text,
    /// A text of bounded length.
    Short,
    Number,
    /// A number between these, both included.
    Within(u64, u64),
    OneOf(&'static [&'static str]),
    /// `true` or `false`
    Flag,
    /// A text of a pattern that has this name.
    Like(&'static str),
}

/// What is sent.
#[derive(Clone, Copy)]
pub(in crate::shell) enum Body {
    Nothing,
    /// A JSON document of at most [`DOCUMENT_BYTES_MAX`], with an example of it.
    Document(Schema, &'static str),
    /// A whole configuration.
    Toml,
}

/// What is answered if it is done.
#[derive(Clone, Copy)]
pub(in crate::shell) enum Answer {
    Document(Schema),
    /// `{"done": true}`
    Done,
    /// Something else, of this type.
    Other(&'static str),
    /// For a browser: not for programs, so not in the document that describes the API.
    Page,
    /// A document, or server-sent events if they are asked for.
    Stream(Schema),
}

/// The members of a document, and their types, as `tests/vectors/api` holds them: the tests compare
/// with it what a daemon answers.
#[derive(Clone, Copy)]
pub(in crate::shell) struct Schema {
    pub(in crate::shell) name: &'static str,
    pub(in crate::shell) lines: &'static str,
}

/// The schema of a name: `schema!("status")`.
macro_rules! schema {
    ($name:literal) => {
        $crate::shell::api::table::Schema {
            name: $name,
            lines: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/vectors/api/",
                $name,
                ".schema"
            )),
        }
    };
}
pub(in crate::shell) use schema;

/// A larger JSON document is refused unread.
pub(in crate::shell) const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// What most operations that look have in common.
pub(in crate::shell) const VIEW: Route = Route {
    verb: Verb::Get,
    path: "",
    role: Role::Viewer,
    about: "",
    query: &[],
    body: Body::Nothing,
    answer: Answer::Done,
    refuses: &[],
    if_match: IfMatch::Never,
    handler: MethodRouter::new,
};

/// What most operations that change something have in common.
pub(in crate::shell) const CHANGE: Route = Route {
    verb: Verb::Post,
    role: Role::Operator,
    ..VIEW
};
