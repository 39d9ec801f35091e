//! The configuration in force, what another one would change, and which there were.

mod document;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

pub(super) use self::document::summary;
use self::document::{CHANGES_MAX, changes, listed, one, problem, shown};
use crate::config::check::TEXT_BYTES_MAX;
use crate::config::redact::restore;
use crate::shell::api::access::Principal;
use crate::shell::api::error::{Code, Problem as Told};
use crate::shell::api::table::{Answer, Body, CHANGE, IfMatch, Role, Route, VIEW, Verb, schema};
use crate::shell::configuration::Source;
use crate::shell::configuration::history::{By, Generation};
use crate::shell::hex::sha256;
use crate::shell::reload::{InForce, Refusal, Why};
use crate::shell::{Question, Shell};

/// Something a client wants to know or do, on its way to the loop.
pub(crate) struct Ask {
    what: What,
    reply: oneshot::Sender<Result<Value, Refused>>,
}

enum What {
    Show,
    Plan {
        text: String,
        who: String,
    },
    Apply {
        text: String,
        who: String,
        expected: Expected,
    },
    History,
    Generation {
        number: u64,
    },
    Rollback {
        number: u64,
        who: String,
        expected: Expected,
    },
}

/// `If-Match`: which configuration the client means to replace (RFC 9110 §13.1.1).
enum Expected {
    Any,
    OneOf(Vec<String>),
}

/// Why it was not done: a problem document with a stable `code`, and what belongs to it.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    code: &'static str,
    detail: String,
    more: Value,
}

type Loop = State<mpsc::Sender<Question>>;
type From = Extension<Principal>;
type Sent = Result<Bytes, BytesRejection>;

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/config",
        about: "The configuration in force, key by key, with where each value is written",
        answer: Answer::Document(schema!("config")),
        handler: || get(show),
        ..VIEW
    },
    Route {
        verb: Verb::Put,
        path: "/api/v1/config",
        role: Role::Admin,
        about: "Puts another configuration in force, as a whole or not at all",
        body: Body::Toml,
        answer: Answer::Document(schema!("config-applied")),
        refuses: REFUSES,
        if_match: IfMatch::Must,
        handler: || put(apply).layer(DefaultBodyLimit::max(TEXT_BYTES_MAX)),
        ..CHANGE
    },
    Route {
        path: "/api/v1/config/plan",
        role: Role::Admin,
        about: "What a configuration would change; nothing is changed",
        body: Body::Toml,
        answer: Answer::Document(schema!("config-plan")),
        refuses: &[UNREADABLE_BODY, UNREADABLE, INVALID, SECRET_LEFT_OUT],
        handler: || post(plan).layer(DefaultBodyLimit::max(TEXT_BYTES_MAX)),
        ..CHANGE
    },
    Route {
        path: "/api/v1/config/history",
        about: "Configurations that were in force",
        answer: Answer::Document(schema!("config-history")),
        handler: || get(history),
        ..VIEW
    },
    Route {
        path: "/api/v1/config/history/{number}",
        role: Role::Admin,
        about: "One of them, with its text; secrets are left out",
        answer: Answer::Document(schema!("config-generation")),
        refuses: &[BAD_GENERATION, NO_SUCH_GENERATION],
        handler: || get(generation),
        ..VIEW
    },
    Route {
        path: "/api/v1/config/rollback/{number}",
        role: Role::Admin,
        about: "Puts an earlier configuration in force again",
        answer: Answer::Document(schema!("config-applied")),
        refuses: REFUSES,
        if_match: IfMatch::Must,
        handler: || post(rollback),
        ..CHANGE
    },
];

const REFUSES: &[Told] = &[
    UNREADABLE_BODY,
    BAD_GENERATION,
    NO_SUCH_GENERATION,
    PRECONDITION_REQUIRED,
    NOT_IN_FORCE,
    UNREADABLE,
    INVALID,
    SECRET_LEFT_OUT,
    TAKES_RESTART,
    CANNOT_APPLY,
];

const UNREADABLE_BODY: Told = Told {
    status: StatusCode::BAD_REQUEST,
    code: "unreadable_body",
    detail: "the text cannot be read, is too large, or is not UTF-8",
};
const BAD_GENERATION: Told = Told {
    status: StatusCode::BAD_REQUEST,
    code: "bad_generation",
    detail: "a generation is named by its number; see /api/v1/config/history",
};
const NO_SUCH_GENERATION: Told = Told {
    status: StatusCode::NOT_FOUND,
    code: "no_such_generation",
    detail: "this generation is not known, or not any more",
};
const PRECONDITION_REQUIRED: Told = Told {
    status: StatusCode::PRECONDITION_REQUIRED,
    code: "precondition_required",
    detail: "say which configuration you mean to replace: If-Match with the ETag of GET \
             /api/v1/config, or * for whichever there is",
};
const NOT_IN_FORCE: Told = Told {
    status: StatusCode::PRECONDITION_FAILED,
    code: "not_in_force",
    detail: "another configuration is in force meanwhile",
};
const UNREADABLE: Told = Told {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "unreadable",
    detail: "the file, or what it is compared with, cannot be read",
};
const INVALID: Told = Told {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "invalid_configuration",
    detail: "the configuration is wrong; `problems` lists every place",
};
const SECRET_LEFT_OUT: Told = Told {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "secret_left_out",
    detail: "a secret is left out of the text, and not known",
};
const TAKES_RESTART: Told = Told {
    status: StatusCode::CONFLICT,
    code: "takes_restart",
    detail: "a change takes a restart; `problems` lists them",
};
const CANNOT_APPLY: Told = Told {
    status: StatusCode::CONFLICT,
    code: "cannot_apply",
    detail: "something the configuration asks for cannot be had",
};

async fn show(events: Loop) -> Result<Response, Refused> {
    ask(&events, What::Show).await.map(tagged)
}

async fn plan(events: Loop, from: From, body: Sent) -> Result<Response, Refused> {
    let (text, who) = (text(body)?, from.0.name);
    let answer = ask(&events, What::Plan { text, who }).await?;
    Ok(Json(answer).into_response())
}

async fn apply(events: Loop, from: From, head: HeaderMap, body: Sent) -> Result<Response, Refused> {
    let (expected, text, who) = (expected(&head)?, text(body)?, from.0.name);
    let what = What::Apply {
        text,
        who,
        expected,
    };
    ask(&events, what).await.map(tagged)
}

async fn history(events: Loop) -> Result<Response, Refused> {
    let answer = ask(&events, What::History).await?;
    Ok(Json(answer).into_response())
}

async fn generation(events: Loop, Path(number): Path<String>) -> Result<Response, Refused> {
    let number = parsed(&number)?;
    ask(&events, What::Generation { number }).await.map(tagged)
}

async fn rollback(
    events: Loop,
    from: From,
    Path(number): Path<String>,
    head: HeaderMap,
) -> Result<Response, Refused> {
    let (number, expected, who) = (parsed(&number)?, expected(&head)?, from.0.name);
    let what = What::Rollback {
        number,
        who,
        expected,
    };
    ask(&events, what).await.map(tagged)
}

fn parsed(number: &str) -> Result<u64, Refused> {
    number.parse().map_err(|_| {
        let Told {
            status,
            code,
            detail,
        } = BAD_GENERATION;
        Refused::new(status, code, detail)
    })
}

fn text(body: Sent) -> Result<String, Refused> {
    let body = body.map_err(|rejection| {
        let detail = format!("send at most {TEXT_BYTES_MAX} bytes of TOML");
        Refused::new(rejection.status(), UNREADABLE_BODY.code, detail)
    })?;
    String::from_utf8(body.into()).map_err(|_| {
        let detail = "the text is not UTF-8";
        Refused::new(UNREADABLE_BODY.status, UNREADABLE_BODY.code, detail)
    })
}

fn expected(head: &HeaderMap) -> Result<Expected, Refused> {
    let mut tags = Vec::new();
    for value in head.get_all(IF_MATCH) {
        let value = value.to_str().unwrap_or_default();
        if value.trim() == "*" {
            return Ok(Expected::Any);
        }
        tags.extend(
            value
                .split(',')
                .map(|tag| tag.trim().trim_matches('"').to_owned()),
        );
    }
    if tags.is_empty() {
        let Told {
            status,
            code,
            detail,
        } = PRECONDITION_REQUIRED;
        return Err(Refused::new(status, code, detail));
    }
    Ok(Expected::OneOf(tags))
}

/// With its hash as entity tag (RFC 9110 §8.8.3).
fn tagged(answer: Value) -> Response {
    let tag = answer
        .get("hash")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let tag = [(ETAG, format!("\"{tag}\""))];
    (tag, Json(answer)).into_response()
}

async fn ask(questions: &mpsc::Sender<Question>, what: What) -> Result<Value, Refused> {
    let busy = || {
        let detail = "the daemon has more to do than it can queue; ask again in a second";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
    };
    let (reply, answer) = oneshot::channel();
    questions
        .try_send(Question::Configuration(Ask { what, reply }))
        .map_err(|_| busy())?;
    answer.await.map_err(|_| busy())?
}

/// The loop's side.
pub(crate) async fn answer(ask: Ask, shell: &mut Shell) {
    let answer = match ask.what {
        What::Show => Ok(shown(shell)),
        What::History => Ok(listed(shell)),
        What::Generation { number } => known(shell, number).map(|g| one(g, shell, true)),
        What::Plan { text, who } => planned(shell, text, who).await,
        What::Apply {
            text,
            who,
            expected,
        } => match matches(shell, &expected).and_then(|()| whole(shell, &text)) {
            Ok(text) => {
                let source = shell.options.other("API", text);
                in_force(shell, source, By::Api { who }).await
            }
            Err(refused) => Err(refused),
        },
        What::Rollback {
            number,
            who,
            expected,
        } => {
            match matches(shell, &expected).and_then(|()| Ok(known(shell, number)?.text.clone())) {
                Ok(text) => {
                    let source = shell.options.other(&format!("generation {number}"), text);
                    let by = By::Rollback { who, to: number };
                    in_force(shell, source, by).await
                }
                Err(refused) => Err(refused),
            }
        }
    };
    // The client may have gone; nothing is owed to it then.
    drop(ask.reply.send(answer));
}

fn matches(shell: &Shell, expected: &Expected) -> Result<(), Refused> {
    let last = shell.reloads.history.last();
    let now = last.map_or("", |last| last.hash.as_str());
    match expected {
        Expected::Any => Ok(()),
        Expected::OneOf(tags) if tags.iter().any(|tag| tag == now) => Ok(()),
        Expected::OneOf(_) => {
            let generation = shell.reloads.generation();
            let detail = format!(
                "another configuration is in force meanwhile, generation {generation}: look at it, \
                 then try again"
            );
            let refused = Refused::new(NOT_IN_FORCE.status, NOT_IN_FORCE.code, detail);
            Err(Refused {
                more: json!({ "generation": generation, "hash": now }),
                ..refused
            })
        }
    }
}

fn known(shell: &Shell, number: u64) -> Result<&Generation, Refused> {
    shell.reloads.history.get(number).ok_or_else(|| {
        let detail = format!(
            "generation {number} is not known, or not any more; `towpath config history` lists \
             those that are"
        );
        Refused::new(NO_SUCH_GENERATION.status, NO_SUCH_GENERATION.code, detail)
    })
}

/// A text that came from here has marks where secrets were left out: what is known stands there
/// again.
fn whole(shell: &Shell, text: &str) -> Result<String, Refused> {
    let known = shell.reloads.history.iter().rev();
    let known: Vec<&str> = known.map(|generation| generation.text.as_str()).collect();
    restore(text, &known).map_err(|whose| {
        let detail = format!("the {whose} is left out of this text, and not known: write it");
        Refused::new(SECRET_LEFT_OUT.status, SECRET_LEFT_OUT.code, detail)
    })
}

async fn planned(shell: &mut Shell, text: String, who: String) -> Result<Value, Refused> {
    let source = shell.options.other("API", whole(shell, &text)?);
    let plan = shell.plan(&source, &By::Api { who }).await?;
    let problems = plan.restarts(&source);
    let takes = plan.changes.iter().map(|change| change.takes).max();
    Ok(json!({
        "generation": shell.reloads.generation(),
        "hash": sha256(&source.text),
        "unchanged": plan.unchanged,
        "takes": takes.map(crate::config::change::Takes::word),
        "changes": changes(&plan.changes),
        "more": plan.changes.len().saturating_sub(CHANGES_MAX),
        "problems": problems.iter().map(problem).collect::<Vec<_>>(),
    }))
}

async fn in_force(shell: &mut Shell, source: Source, by: By) -> Result<Value, Refused> {
    let InForce {
        generation,
        changes: made,
        unchanged,
    } = shell.apply(source, by).await?;
    // What the file said last is no longer what should be in force.
    shell.reloads.refused = None;
    Ok(json!({
        "generation": generation,
        "hash": shell.reloads.history.last().map(|last| last.hash.as_str()),
        "unchanged": unchanged,
        "stored": shell.reloads.history.in_memory().is_none(),
        "changes": changes(&made),
        "more": made.len().saturating_sub(CHANGES_MAX),
    }))
}

pub(super) fn code(why: Why) -> (StatusCode, &'static str) {
    let told = match why {
        Why::Unreadable => UNREADABLE,
        Why::Invalid => INVALID,
        Why::TakesRestart => TAKES_RESTART,
        Why::CannotApply => CANNOT_APPLY,
    };
    (told.status, told.code)
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            more: Value::Null,
        }
    }
}

impl std::convert::From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = code(refusal.why);
        Self {
            status,
            code,
            detail: format!("{}; nothing has changed", refusal.detail),
            more: json!({
                "problems": refusal.problems.iter().map(problem).collect::<Vec<_>>(),
                "changes": changes(&refusal.changes),
            }),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let (Some(body), Value::Object(mut more)) = (body.as_object_mut(), self.more) {
            body.append(&mut more);
        }
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        let body = Json(body).into_response().into_body();
        (self.status, kind, Extension(Code(self.code)), body).into_response()
    }
}
