//! Who may publish and read what: decided by who somebody is, never by where.

use std::collections::{BTreeMap, BTreeSet};

use crate::bus::topic::{Part, Topic, id_of};
use crate::bus::{Access, Client, Principal};

/// What identities may do now. The plane says who enters a conference and who leaves it
/// ([`Effect::Admit`](super::Effect::Admit), [`Effect::Dismiss`](super::Effect::Dismiss)).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    rosters: BTreeMap<String, BTreeSet<String>>,
}

impl Rules {
    /// A participant may read a conference from now on.
    pub fn admit(&mut self, cid: &str, pid: &str) {
        let roster = self.rosters.entry(cid.to_owned()).or_default();
        roster.insert(pid.to_owned());
    }

    /// It may not any more.
    pub fn dismiss(&mut self, cid: &str, pid: &str) {
        let Some(roster) = self.rosters.get_mut(cid) else {
            return;
        };
        roster.remove(pid);
        if roster.is_empty() {
            self.rosters.remove(cid);
        }
    }

    fn is_in(&self, cid: &str, pid: &str) -> bool {
        let roster = self.rosters.get(cid);
        roster.is_some_and(|roster| roster.contains(pid))
    }
}

impl Access for Rules {
    fn may_publish(&self, client: &Client, topic: &str) -> bool {
        let Some(topic) = Topic::parse(topic) else {
            return false;
        };
        match (&client.principal, topic) {
            (Principal::Operator(_), _) => true,
            (Principal::Viewer(_), _) => false,
            (
                Principal::Account(_) | Principal::Anonymous(_),
                Topic::Conference {
                    part: Part::Command { pid },
                    ..
                },
            ) => self::pid(client).is_some_and(|own| own == pid),
            (
                Principal::Server(name),
                Topic::ServerState { sid } | Topic::ServerEvent { sid, .. },
            ) => id_of(name) == sid,
            (
                Principal::Account(_) | Principal::Anonymous(_) | Principal::Server(_),
                Topic::Conference { .. } | Topic::ServerState { .. } | Topic::ServerEvent { .. },
            ) => false,
        }
    }

    /// A filter with wildcards may be subscribed to: every message it lets through is asked about
    /// by its own topic.
    fn may_read(&self, client: &Client, topic: &str) -> bool {
        if topic.contains(['+', '#']) {
            return true;
        }
        let tool = matches!(
            client.principal,
            Principal::Operator(_) | Principal::Viewer(_)
        );
        if tool && Topic::parse(topic).is_some() {
            return true;
        }
        let Some(topic) = Topic::parse(topic) else {
            return false;
        };
        match topic {
            Topic::Conference {
                part: Part::Command { pid: of } | Part::Response { pid: of },
                ..
            } => pid(client).is_some_and(|own| own == of),
            Topic::Conference { cid, .. } => pid(client).is_some_and(|own| self.is_in(cid, &own)),
            Topic::ServerState { sid } | Topic::ServerEvent { sid, .. } => {
                matches!(&client.principal, Principal::Server(name) if id_of(name) == sid)
            }
        }
    }
}

/// The participant a client is; a server or an operator is none.
#[must_use]
pub fn pid(client: &Client) -> Option<String> {
    match &client.principal {
        Principal::Account(user) | Principal::Anonymous(user) => Some(id_of(user)),
        Principal::Server(_) | Principal::Operator(_) | Principal::Viewer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(principal: Principal) -> Client {
        let at = ([127, 0, 0, 1], 1883).into();
        Client {
            principal,
            id: "c".to_owned(),
            local: at,
            remote: at,
        }
    }

    #[test]
    fn identities_decide() {
        let mut rules = Rules::default();
        rules.admit("a~1", "1001");
        rules.admit("a~2", "1002");
        rules.dismiss("a~2", "1003");
        let own = client(Principal::Account("1001".to_owned()));
        let nobody = client(Principal::Anonymous("1001".to_owned()));
        let edge = client(Principal::Server("Edge".to_owned()));
        let tool = client(Principal::Operator("tool".to_owned()));
        let wall = client(Principal::Viewer("wall".to_owned()));
        for (who, topic, publish, read) in [
            (&own, "towpath/v1/c/a~1/cmd/1001", true, true),
            (&nobody, "towpath/v1/c/a~1/cmd/1001", true, true),
            (&own, "towpath/v1/c/a~1/cmd/1002", false, false),
            (&own, "towpath/v1/c/a~2/cmd/1001", true, true),
            (&own, "towpath/v1/c/a~1/rsp/1001", false, true),
            (&own, "towpath/v1/c/a~1/rsp/1002", false, false),
            (&own, "towpath/v1/c/a~1/evt", false, true),
            (&own, "towpath/v1/c/a~1/floor/audio", false, true),
            (&own, "towpath/v1/c/a~1/roster/1002", false, true),
            (&own, "towpath/v1/c/a~2/evt", false, false),
            (&own, "towpath/v1/c/+/roster/1001", false, true),
            (&own, "towpath/v1/s/edge/state", false, false),
            (&own, "elsewhere", false, false),
            (&edge, "towpath/v1/s/~45dge/state", true, true),
            (&edge, "towpath/v1/s/~45dge/evt/reg", true, true),
            (&edge, "towpath/v1/s/other/state", false, false),
            (&edge, "towpath/v1/c/a~1/evt", false, false),
            (&edge, "towpath/v1/c/a~1/cmd/~45dge", false, false),
            (&tool, "towpath/v1/s/other/state", true, true),
            (&tool, "towpath/v1/c/a~1/evt", true, true),
            (&tool, "elsewhere", false, false),
            (&tool, "towpath/v1/c/a~1/cmd/1001", true, true),
            (&wall, "towpath/v1/s/other/state", false, true),
            (&wall, "towpath/v1/c/a~1/floor/audio", false, true),
            (&wall, "towpath/v1/c/a~1/cmd/1001", false, true),
            (&wall, "elsewhere", false, false),
        ] {
            assert_eq!(rules.may_publish(who, topic), publish, "publish {topic}");
            assert_eq!(rules.may_read(who, topic), read, "read {topic}");
        }
        rules.dismiss("a~1", "1001");
        assert!(!rules.may_read(&own, "towpath/v1/c/a~1/evt"));
    }
}
