//! Links that come and go, and what was missed meanwhile.

use std::collections::BTreeSet;
use std::time::Instant;

use super::conference::{Conference, Follows};
use super::frame::{Body, CatchUp, Change, Frame, Id, Mark};
use super::{ASK_AGAIN, CONFERENCES_MAX, Cascade, MEMBERS_MAX, Out, Reason, Up};

impl Cascade {
    /// A link came up or went down.
    pub fn link(&mut self, to: &str, up: bool, now: Instant, out: &mut Vec<Out>) -> Vec<Up> {
        self.links.insert(to.to_owned(), up);
        let mut told = Vec::new();
        let cids: Vec<String> = self.conferences.keys().cloned().collect();
        for cid in cids {
            let Some(conference) = self.conferences.get(&cid) else {
                continue;
            };
            if conference.via.as_deref() == Some(to) {
                self.way_home(&cid, to, up, now, (&mut told, out));
            } else if conference.members.contains(to) {
                self.way_down(&cid, to, up, (&mut told, out));
            }
        }
        told
    }

    /// The neighbour may have missed something of what it shares: it is made to ask.
    pub fn remind(&mut self, to: &str, out: &mut Vec<Out>) {
        let cids: Vec<String> = self.conferences.keys().cloned().collect();
        for cid in cids {
            let conference = self.conferences.get(&cid);
            if conference.is_some_and(|c| c.members.contains(to) && c.via.as_deref() != Some(to)) {
                self.introduce(&cid, to, out);
            }
        }
    }

    fn way_home(
        &mut self,
        cid: &str,
        via: &str,
        up: bool,
        now: Instant,
        (told, out): (&mut Vec<Up>, &mut Vec<Out>),
    ) {
        let Some(conference) = self.conferences.get(cid) else {
            return;
        };
        let home = conference.home.clone();
        if !up {
            self.home_is(cid, &home, false, now, (told, out));
            return;
        }
        // Beyond a neighbour, the neighbour tells.
        if via == home {
            self.home_is(cid, &home, true, now, (told, out));
        }
        self.ask(cid, now, out);
        self.vouch(cid, out);
    }

    /// The home learns which members can be reached here.
    fn vouch(&mut self, cid: &str, out: &mut Vec<Out>) {
        let Some(conference) = self.conferences.get(cid) else {
            return;
        };
        let routes = conference.routes.iter();
        let behind = routes.filter(|(sid, by)| !conference.away.contains(*sid) && self.is_up(by));
        let behind = behind.map(|(sid, _)| sid.clone());
        let there: BTreeSet<String> = behind.chain(self.below(cid)).collect();
        for sid in there {
            self.tell_up(cid, &sid, true, out);
        }
    }

    fn way_down(
        &mut self,
        cid: &str,
        to: &str,
        up: bool,
        (told, out): (&mut Vec<Up>, &mut Vec<Out>),
    ) {
        let Some(conference) = self.conferences.get(cid) else {
            return;
        };
        let behind = conference.routes.iter().filter(|(_, by)| *by == to);
        let mut concerned: BTreeSet<String> = behind.map(|(sid, _)| sid.clone()).collect();
        concerned.retain(|sid| !self.links.contains_key(sid));
        if up {
            // Whom it reaches, it says itself.
            concerned.clear();
        }
        concerned.insert(to.to_owned());
        for sid in concerned {
            self.member_is(cid, &sid, up, (told, out));
        }
        if up {
            self.introduce(cid, to, out);
        }
    }

    /// What a neighbour below must know first: who shares it, and whether its home is there.
    fn introduce(&mut self, cid: &str, to: &str, out: &mut Vec<Out>) {
        let Some(conference) = self.conferences.get(cid) else {
            return;
        };
        let Some(version) = conference.version else {
            return;
        };
        let members = conference.members.iter().cloned().collect();
        let (home, there) = (conference.home.clone(), conference.home_there);
        let at_home = conference.via.is_none();
        let mut bodies = vec![Body::Members {
            cid: cid.to_owned(),
            version,
            members,
        }];
        if !at_home {
            bodies.push(Body::Reach {
                cid: cid.to_owned(),
                sid: home,
                there,
            });
        }
        for body in bodies {
            let frame = self.frame(body);
            let to = to.to_owned();
            out.push(Out { to, frame });
        }
    }

    /// Members among the neighbours, but for the way home.
    fn below(&self, cid: &str) -> impl Iterator<Item = String> {
        let conference = self.conferences.get(cid);
        let members = conference.into_iter().flat_map(|c| {
            let via = c.via.as_deref();
            c.members
                .iter()
                .filter(move |sid| via != Some(sid.as_str()))
        });
        let up = members.filter(|sid| self.is_up(sid));
        up.cloned()
    }

    fn home_is(
        &mut self,
        cid: &str,
        home: &str,
        there: bool,
        now: Instant,
        (told, out): (&mut Vec<Up>, &mut Vec<Out>),
    ) {
        let Some(conference) = self.conferences.get_mut(cid) else {
            return;
        };
        if std::mem::replace(&mut conference.home_there, there) == there {
            return;
        }
        let cid = cid.to_owned();
        if !there {
            conference.ask_again = None;
            let lost = std::mem::take(&mut conference.pending);
            told.extend(lost.into_keys().map(|re| Up::Unreachable {
                cid: cid.clone(),
                re,
            }));
        }
        told.push(Up::Home {
            cid: cid.clone(),
            there,
        });
        let below: Vec<String> = self.below(&cid).collect();
        for to in below {
            let frame = self.frame(Body::Reach {
                cid: cid.clone(),
                sid: home.to_owned(),
                there,
            });
            out.push(Out { to, frame });
        }
        if there {
            self.ask(&cid, now, out);
        }
    }

    fn member_is(
        &mut self,
        cid: &str,
        sid: &str,
        there: bool,
        (told, out): (&mut Vec<Up>, &mut Vec<Out>),
    ) {
        let Some(conference) = self.conferences.get_mut(cid) else {
            return;
        };
        let changed = if there {
            conference.away.remove(sid)
        } else {
            conference.away.insert(sid.to_owned())
        };
        if conference.via.is_some() {
            self.tell_up(cid, sid, there, out);
        } else if changed {
            told.push(Up::Member {
                cid: cid.to_owned(),
                sid: sid.to_owned(),
                there,
            });
        }
    }

    fn tell_up(&mut self, cid: &str, sid: &str, there: bool, out: &mut Vec<Out>) {
        let via = self.conferences.get(cid).and_then(|c| c.via.clone());
        let Some(to) = via.filter(|via| self.is_up(via)) else {
            return;
        };
        let frame = self.frame(Body::Reach {
            cid: cid.to_owned(),
            sid: sid.to_owned(),
            there,
        });
        out.push(Out { to, frame });
    }

    /// Asks the home for what was missed.
    fn ask(&mut self, cid: &str, now: Instant, out: &mut Vec<Out>) {
        let Some(conference) = self.conferences.get_mut(cid) else {
            return;
        };
        let (have, via) = (conference.mark, conference.via.clone());
        let again = Some(now + ASK_AGAIN);
        if std::mem::replace(&mut conference.ask_again, again) == again {
            // Just asked.
            return;
        }
        self.waiting.insert(cid.to_owned());
        if let Some(to) = via.filter(|via| self.is_up(via)) {
            let cid = cid.to_owned();
            let frame = self.frame(Body::Ask { cid, have });
            out.push(Out { to, frame });
        }
    }

    pub(super) fn hear_members(
        &mut self,
        (from, home, cid): (&str, &str, &str),
        members: Vec<String>,
        version: Mark,
        onward: &Frame,
        now: Instant,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Up>, Reason> {
        if members.len() > MEMBERS_MAX {
            return Err(Reason::Full);
        }
        let members: BTreeSet<String> = members.into_iter().collect();
        let known = self.conferences.get(cid);
        if known.is_some_and(|c| c.version > Some(version)) {
            return Err(Reason::Stale);
        }
        let ours = members.contains(&self.own);
        if known.is_none() {
            if !ours {
                return Err(Reason::NotMember);
            }
            if self.conferences.len() >= CONFERENCES_MAX {
                return Err(Reason::Full);
            }
        }
        let news = known.is_none_or(|c| c.version != Some(version));
        let new = || Conference::new(home, Some(from));
        let conference = self.conferences.entry(cid.to_owned()).or_insert_with(new);
        conference.via = Some(from.to_owned());
        let concerned = conference.take_members(members, version);
        if news {
            // Those below hear it from us, as the home's word.
            self.fan_out(onward, &concerned, out);
        }
        if ours {
            // Whoever tells again suspects that something was missed, on either side.
            self.ask(cid, now, out);
            self.vouch(cid, out);
            return Ok(Vec::new());
        }
        let Some(over) = self.conferences.remove(cid) else {
            return Ok(Vec::new());
        };
        let cid = cid.to_owned();
        let lost = over.pending.keys().map(|re| Up::Unreachable {
            cid: cid.clone(),
            re: *re,
        });
        let mut told: Vec<Up> = lost.collect();
        let parts = over.parts();
        told.push(Up::Ended { cid, parts });
        Ok(told)
    }

    pub(super) fn hear_change(
        &mut self,
        cid: &str,
        change: &Change,
        onward: &Frame,
        now: Instant,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Up>, Reason> {
        let conference = self.conferences.get_mut(cid).ok_or(Reason::NotMember)?;
        let members = conference.members.clone();
        let follows = conference.follows(change.mark);
        let waits = conference.ask_again.is_some();
        if follows == Follows::Next {
            conference.keep(change);
        }
        // Those below judge for themselves.
        self.fan_out(onward, &members, out);
        match follows {
            Follows::Next => Ok(vec![Up::Changed {
                cid: cid.to_owned(),
                documents: change.documents.clone(),
            }]),
            Follows::Old => Err(Reason::Stale),
            Follows::Gap => {
                if !waits {
                    self.ask(cid, now, out);
                }
                Ok(Vec::new())
            }
        }
    }

    pub(super) fn hear_ask(
        &mut self,
        cid: &str,
        have: Option<Mark>,
        path: &[String],
        onward: Frame,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Up>, Reason> {
        let (Some(origin), Some(from)) = (path.first(), path.last()) else {
            return Err(Reason::Forged);
        };
        let conference = self.conferences.get_mut(cid).ok_or(Reason::NotMember)?;
        conference.learn(origin, from);
        let catch_up = conference.missed(have);
        if let Some(to) = conference.via.clone() {
            if self.is_up(&to) {
                out.push(Out { to, frame: onward });
            }
            // Whoever asked asks again.
            return Ok(Vec::new());
        }
        if have.is_none() {
            // After a start it knows its way here, and not who else shares it.
            self.introduce(cid, from, out);
        }
        let mut told = Vec::new();
        self.member_is(cid, origin, true, (&mut told, out));
        let frame = self.frame(Body::Snapshot {
            cid: cid.to_owned(),
            to: origin.clone(),
            catch_up,
        });
        self.send_down(cid, origin, frame, out);
        Ok(told)
    }

    pub(super) fn hear_snapshot(
        &mut self,
        cid: &str,
        to: &str,
        catch_up: CatchUp,
        onward: Frame,
        now: Instant,
        out: &mut Vec<Out>,
    ) -> Vec<Up> {
        if to != self.own {
            self.send_down(cid, to, onward, out);
            return Vec::new();
        }
        let Some(conference) = self.conferences.get_mut(cid) else {
            return Vec::new();
        };
        let documents = match catch_up {
            CatchUp::Nothing => Vec::new(),
            CatchUp::Changes(changes) => {
                let mut documents = Vec::new();
                let missed = |change: &Change| Some(change.mark) > conference.mark;
                let changes: Vec<Change> = changes.into_iter().filter(missed).collect();
                for change in changes {
                    match conference.follows(change.mark) {
                        Follows::Next => {
                            conference.keep(&change);
                            documents.extend(change.documents);
                        }
                        Follows::Old => {}
                        // It is asked for again when its time is over.
                        Follows::Gap => return Vec::new(),
                    }
                }
                documents
            }
            CatchUp::State(state) => {
                if Some(state.mark) < conference.mark {
                    Vec::new()
                } else {
                    conference.replace(state)
                }
            }
        };
        conference.ask_again = None;
        let home = conference.home.clone();
        let mut told = Vec::new();
        let caught = Up::Caught {
            cid: cid.to_owned(),
        };
        if !documents.is_empty() {
            let cid = cid.to_owned();
            told.push(Up::Changed { cid, documents });
        }
        // Nobody may have noticed that it was away.
        self.home_is(cid, &home, true, now, (&mut told, out));
        told.push(caught);
        told
    }

    pub(super) fn hear_reach(
        &mut self,
        (from, cid): (&str, &str),
        sid: &str,
        there: bool,
        onward: Frame,
        now: Instant,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Up>, Reason> {
        let conference = self.conferences.get_mut(cid).ok_or(Reason::NotMember)?;
        let mut told = Vec::new();
        if sid == conference.home {
            let home = sid.to_owned();
            self.home_is(cid, &home, there, now, (&mut told, out));
            return Ok(told);
        }
        if !conference.members.contains(sid) {
            return Err(Reason::NotMember);
        }
        // Of its own neighbours a server needs no word of others.
        if self.links.contains_key(sid) {
            return Err(Reason::Detour);
        }
        conference.learn(sid, from);
        if let Some(to) = conference.via.clone() {
            if there {
                conference.away.remove(sid);
            } else {
                conference.away.insert(sid.to_owned());
            }
            if self.is_up(&to) {
                out.push(Out { to, frame: onward });
            }
            return Ok(told);
        }
        self.member_is(cid, sid, there, (&mut told, out));
        Ok(told)
    }

    /// What time has brought about.
    pub fn expire(&mut self, now: Instant, out: &mut Vec<Out>) -> Vec<Up> {
        let mut told = Vec::new();
        let mut again = Vec::new();
        for cid in &self.waiting {
            let Some(conference) = self.conferences.get_mut(cid) else {
                continue;
            };
            let over = |at: &Instant| *at <= now;
            let late: Vec<Id> = conference
                .pending
                .iter()
                .filter(|(_, at)| over(at))
                .map(|(id, _)| *id)
                .collect();
            for re in late {
                conference.pending.remove(&re);
                let cid = cid.clone();
                told.push(Up::Unreachable { cid, re });
            }
            if conference.ask_again.as_ref().is_some_and(over) {
                again.push(cid.clone());
            }
        }
        for cid in again {
            self.ask(&cid, now, out);
        }
        let all = &self.conferences;
        let waits = |cid: &String| all.get(cid).is_some_and(|c| c.next().is_some());
        self.waiting.retain(waits);
        told
    }

    /// When [`Cascade::expire`] is wanted.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let each = self.waiting.iter().filter_map(|c| self.conferences.get(c));
        each.filter_map(Conference::next).min()
    }
}
