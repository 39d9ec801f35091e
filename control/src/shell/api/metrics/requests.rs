//! What was asked of the API, and what was refused.

use super::{Kind, Text};
use crate::shell::Shell;

pub(super) fn requests(shell: &Shell, text: &mut Text) {
    let (requests, refused) = shell.api.access.counts();
    let help = "Requests to the API, by operation and class of status.";
    text.family("api_requests_total", Kind::Counter, help);
    for (route, class, count) in &requests {
        let class = format!("{class}xx");
        text.series(&[("route", route), ("code_class", &class)], *count);
    }
    let help = "Requests to the API that were not carried out, by the code of the refusal.";
    text.family("api_refused_total", Kind::Counter, help);
    for (reason, count) in &refused {
        text.series(&[("reason", reason)], *count);
    }
}
