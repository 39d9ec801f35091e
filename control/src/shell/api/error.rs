//! Refusals as RFC 9457 problem documents with a stable `code`.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use crate::engine::admin::Refused;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub(in crate::shell) status: StatusCode,
    /// Its stable name.
    pub(in crate::shell) code: &'static str,
    pub(in crate::shell) detail: &'static str,
}

impl Problem {
    pub(in crate::shell) const BAD_DRAIN: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_drain",
        detail: "`seconds` is 0 to 604800 (a week), or left out: then calls may last",
    };

    pub(in crate::shell) const BUSY: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "busy",
        detail: "the daemon has more to do than it can queue; ask again in a second",
    };

    pub(in crate::shell) const NOT_FOUND: Self = Self {
        status: StatusCode::NOT_FOUND,
        code: "not_found",
        detail: "there is no such resource; see /api/v1/status for what there is",
    };

    pub(in crate::shell) const BAD_ID: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_id",
        detail: "a call is named by the number in its `id`",
    };

    pub(in crate::shell) const NO_SUCH_CONFERENCE: Self = Self {
        code: "no_such_conference",
        detail: "no such conference, or it ended; `towpath conf list` shows those that go on",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const NO_SUCH_VIEW: Self = Self {
        code: "no_such_view",
        detail: "nobody has set this view yet; `PUT` does",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const NO_SUCH_FLOOR: Self = Self {
        code: "no_such_floor",
        detail: "the conference has no floor of that name; `towpath conf show CID` has those \
                 it has",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const NO_SUCH_REQUEST: Self = Self {
        code: "no_such_request",
        detail: "no such floor request, or it has ended",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const BAD_CONFERENCE: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_conference",
        detail: "write {\"uri\": the user part of the URI that calls to it name}",
    };

    pub(in crate::shell) const TOO_MANY_CONFERENCES: Self = Self {
        status: StatusCode::CONFLICT,
        code: "too_many_conferences",
        detail: "there are as many conferences as may be; end some",
    };

    pub(in crate::shell) const NOT_HOME: Self = Self {
        status: StatusCode::CONFLICT,
        code: "not_home",
        detail: "only the home of a conference says who shares it: the server that its id begins \
                 with",
    };

    pub(in crate::shell) const NOT_A_SERVER: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "not_a_server",
        detail: "write the node.id of another server: a-z, 0-9 and `-`; `towpath peer list` shows \
                 those that are linked to this one",
    };

    pub(in crate::shell) const TOO_MANY_MEMBERS: Self = Self {
        status: StatusCode::CONFLICT,
        code: "too_many_members",
        detail: "as many servers share it as may; unshare one",
    };

    pub(in crate::shell) const HOME_UNREACHABLE: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "home_unreachable",
        detail: "the server that decides about this conference cannot be reached; try again, \
                 `towpath peer list` shows why",
    };

    pub(in crate::shell) const BAD_COMMAND: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_command",
        detail: "the command cannot be read or carried out; `reason` says why, docs/conference.md \
                 how it is written",
    };

    pub(in crate::shell) const COMMAND_DENIED: Self = Self {
        status: StatusCode::FORBIDDEN,
        code: "denied",
        detail: "this participant may not do that now; `reason` says why",
    };

    pub(in crate::shell) const STALE: Self = Self {
        status: StatusCode::CONFLICT,
        code: "stale",
        detail: "a later command of this client was carried out; `answer` has the state there is",
    };

    pub(in crate::shell) const CONFLICT: Self = Self {
        status: StatusCode::PRECONDITION_FAILED,
        code: "conflict",
        detail: "the state is not the one in If-Match any more; `answer` has the one there is",
    };

    pub(in crate::shell) const BAD_LIMITS: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_limits",
        detail: "a capture has packets=1..100000 and seconds=1..60",
    };

    pub(in crate::shell) const BAD_TOP: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_top",
        detail: "calls are listed by n=1..200, offset, q, order=asc|desc and \
                 sort=bits_per_s|lost_ppm|jitter_us|silent_s|age_s|id|from|to|state",
    };

    pub(in crate::shell) const TOO_MANY_CAPTURES: Self = Self {
        status: StatusCode::CONFLICT,
        code: "too_many_captures",
        detail: "as many calls as may be are being captured; wait for one to end",
    };

    pub(in crate::shell) const BEING_CAPTURED: Self = Self {
        status: StatusCode::CONFLICT,
        code: "being_captured",
        detail: "this call is being captured; wait for that to end",
    };

    pub(in crate::shell) const NO_SUCH_CALL: Self = Self {
        code: "no_such_call",
        detail: "no such call, or it ended; `towpath call list` shows those that go on",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const NO_LADDER: Self = Self {
        code: "no_ladder",
        detail: "no messages of such a call: give its number in `towpath call list`, or its \
                 Call-ID; they are kept for the last trace.calls calls, and only with trace.ladder",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const BAD_LADDER: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_ladder",
        detail: "the messages of a call are asked for with full=true|false and numbers=true|false",
    };

    pub(in crate::shell) const BAD_ADDRESS: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_address",
        detail: "`ip` and `local` are IP addresses, without a port: ?ip=192.0.2.1",
    };

    pub(in crate::shell) const BAD_NUMBER: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_number",
        detail: "`since` is the number of an event: ?since=17",
    };

    pub(in crate::shell) const DOCTOR_BUSY: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "doctor_busy",
        detail: "the host is being looked at for somebody else; ask again in a few seconds",
    };

    pub(in crate::shell) const BAD_KNOCK: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_knock",
        detail: "write {\"token\": \"towpath-knock-\" and 16 letters or digits at least, \
                 \"targets\": at most 64 ports from 1024 of one host}",
    };

    pub(in crate::shell) const TOO_MANY_KNOCKS: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        code: "too_many_knocks",
        detail: "somebody had this node knock within the last second; try again",
    };

    pub(in crate::shell) const BAD_BAN: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_ban",
        detail: "`source` is an address or a prefix (192.0.2.0/24); `seconds` is 1 to 31622400 \
                 (a year), or left out",
    };

    pub(in crate::shell) const BAD_MEDIA: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_media",
        detail: "write {\"leg\": \"caller\" or \"callee\", \"media\": \"sdp\", \"symmetric\", \
                 \"auto\" or \"default\"}",
    };

    pub(in crate::shell) const NO_SUCH_ADDRESS: Self = Self {
        code: "no_such_address",
        detail: "no network has this address of ours; `towpath network list` shows them",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const UNAUTHORIZED: Self = Self {
        status: StatusCode::UNAUTHORIZED,
        code: "unauthorized",
        detail: "show a token: Authorization: Bearer TOKEN; `towpath token create` makes one",
    };

    pub(in crate::shell) const BAD_TOKEN: Self = Self {
        status: StatusCode::UNAUTHORIZED,
        code: "bad_token",
        detail: "this token is nobody's, or not any more; `towpath token list` shows those that \
                 are",
    };

    pub(in crate::shell) const FORBIDDEN: Self = Self {
        status: StatusCode::FORBIDDEN,
        code: "forbidden",
        detail: "your role may not do this: what changes the configuration, tokens and the audit \
                 log take `admin` (on the Unix socket root and the daemon's user), other changes \
                 `operator`; docs/api.md has the role of each",
    };

    pub(in crate::shell) const TOO_MANY_REQUESTS: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        code: "too_many_requests",
        detail: "you ask more often than api.rate; wait as long as Retry-After says",
    };

    pub(in crate::shell) const TOO_MANY_FAILURES: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        code: "too_many_failures",
        detail: "too many wrong tokens came from your address; wait as long as Retry-After says",
    };

    pub(in crate::shell) const BODY_TOO_LARGE: Self = Self {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        code: "body_too_large",
        detail: "send at most 65536 bytes",
    };

    pub(in crate::shell) const BODY_TOO_SLOW: Self = Self {
        status: StatusCode::REQUEST_TIMEOUT,
        code: "body_too_slow",
        detail: "what you send did not come within 10 s",
    };

    pub(in crate::shell) const BAD_KEY: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_key",
        detail: "an Idempotency-Key has 1 to 128 letters",
    };

    pub(in crate::shell) const KEY_REUSED: Self = Self {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        code: "key_reused",
        detail: "another order was given under this Idempotency-Key; give each its own",
    };

    pub(in crate::shell) const IN_PROGRESS: Self = Self {
        status: StatusCode::CONFLICT,
        code: "in_progress",
        detail: "the order of this Idempotency-Key is being carried out; ask again in a second",
    };

    pub(in crate::shell) const BAD_TOKEN_ORDER: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_token_order",
        detail: "`name` has 1 to 64 letters, digits, `-`, `_` or `.`; `role` is viewer, operator \
                 or admin; `seconds` is 1 to 316224000 (ten years), or left out",
    };

    pub(in crate::shell) const TOKEN_EXISTS: Self = Self {
        status: StatusCode::CONFLICT,
        code: "token_exists",
        detail: "a token of this name was given out; revoke it, or choose another name",
    };

    pub(in crate::shell) const TOO_MANY_TOKENS: Self = Self {
        status: StatusCode::CONFLICT,
        code: "too_many_tokens",
        detail: "there are 256 tokens, as many as may be; revoke some",
    };

    pub(in crate::shell) const NO_SUCH_TOKEN: Self = Self {
        code: "no_such_token",
        detail: "no token has this name; `towpath token list` shows them",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const NOT_STORED: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "not_stored",
        detail: "it cannot be kept in state_dir, so nothing has changed; the log says why",
    };

    pub(in crate::shell) const BAD_REQUEST: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_request",
        detail: "the path or the query cannot be read: see its parameters in /api/v1/openapi.json",
    };

    pub(in crate::shell) const NOT_READY: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "not_ready",
        detail: "calls cannot be taken now; /healthz says why",
    };

    pub(in crate::shell) const BAD_FILTER: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_filter",
        detail: "`kind` is one or more kinds of events in small letters, with commas: \
                 call,media.silent; it and `subject` have at most 256 letters",
    };

    pub(in crate::shell) const TOO_MANY_READERS: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "too_many_readers",
        detail: "64 clients read events as they happen, as many as may; ask for the document",
    };

    pub(in crate::shell) const BAD_LOG_ORDER: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_log_order",
        detail: "`level` is off, error, warn, info, debug or trace, and by part behind commas: \
                 info,control::engine=debug; `calls` are the numbers of at most 32 calls",
    };

    pub(in crate::shell) const METHOD_NOT_ALLOWED: Self = Self {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "method_not_allowed",
        detail: "this cannot be done to it; /api/v1/openapi.json says what can",
    };

    pub(in crate::shell) const NO_SUCH_REGISTRATION: Self = Self {
        code: "no_such_registration",
        detail: "nobody is registered under this name; `towpath reg list` shows who is \
                 (user@domain)",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const NO_MEDIA: Self = Self {
        status: StatusCode::CONFLICT,
        code: "no_media",
        detail: "the call has no media yet; order it once the callee is asked",
    };

    pub(in crate::shell) const NO_SUCH_PEER: Self = Self {
        code: "no_such_peer",
        detail: "no [[sip.peer]] has this name; `towpath peer list` shows them",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const NO_SUCH_BAN: Self = Self {
        code: "no_such_ban",
        detail: "this prefix is not banned; `towpath ban list` shows those that are",
        ..Self::NOT_FOUND
    };

    pub(in crate::shell) const TOO_MANY_BANS: Self = Self {
        status: StatusCode::CONFLICT,
        code: "too_many_bans",
        detail: "there are as many manual bans as may be; remove some, or ban a prefix",
    };

    pub(in crate::shell) const NOT_ANSWERED: Self = Self {
        status: StatusCode::CONFLICT,
        code: "not_answered",
        detail: "the call is not answered yet; order it once it is up",
    };
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoSuchCall => Self::NO_SUCH_CALL,
            Refused::NoSuchRegistration => Self::NO_SUCH_REGISTRATION,
            Refused::NoMedia => Self::NO_MEDIA,
            Refused::NoSuchPeer => Self::NO_SUCH_PEER,
            Refused::NoSuchBan => Self::NO_SUCH_BAN,
            Refused::TooManyBans => Self::TOO_MANY_BANS,
            Refused::NotAnswered => Self::NOT_ANSWERED,
        }
    }
}

/// The code of a refusal, for those who pass it on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

impl Problem {
    /// With more members (RFC 9457 §3.2).
    pub(in crate::shell) fn with(self, more: serde_json::Value) -> Response {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let (Some(body), serde_json::Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        let body = Json(body).into_response().into_body();
        (self.status, kind, Extension(Code(self.code)), body).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.with(serde_json::Value::Null)
    }
}
