//! The registrar (RFC 3261 §10.3): which contacts an address-of-record has, and for how long.
//!
//! A binding is known by what the client says of itself, its instance and reg-id (RFC 5626 §6) or
//! else its Contact URI, and never by an address it was seen at: a client that moves keeps its
//! binding, two clients behind one router have two.

mod binding;
pub mod record;
pub mod upstream;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::binding::{Binding, Change, Q_DEFAULT, Registration, USER_AGENT_BYTES_MAX};
use self::binding::{bound, in_order, is_same};
use crate::id::Aor;

/// Bindings of one address-of-record.
pub const BINDINGS_PER_AOR_MAX: usize = 10;
/// Addresses-of-record with bindings.
pub const AORS_MAX: usize = 65_536;
/// Contacts in one REGISTER: enough to replace every binding by another.
pub const CONTACTS_PER_REQUEST_MAX: usize = 2 * BINDINGS_PER_AOR_MAX;
/// What one binding may hold of each: Contact URI, instance, Call-ID, Path value.
pub const FIELD_BYTES_MAX: usize = 1_024;
/// Path values of one binding (RFC 3327).
pub const ROUTES_MAX: usize = 10;

/// How long bindings last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Shorter wishes are refused (423).
    pub expires_min: Duration,
    /// Longer wishes are cut, no wish gets this.
    pub expires_max: Duration,
    /// Longest for a client behind a NAT: its next REGISTER keeps the way to it open.
    pub expires_natted_max: Duration,
}

/// Why a REGISTER changed nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// 423; the duration goes into Min-Expires.
    IntervalTooBrief(Duration),
    /// 500: a request of this Call-ID with this CSeq or a higher one was obeyed already.
    OutOfOrder,
    /// 503: a limit of this file.
    TooMany,
    /// 400: `*` beside other contacts, or without `Expires: 0`.
    BadStar,
    /// 400: a field is longer than `FIELD_BYTES_MAX`.
    TooLong,
}

impl Refused {
    /// The status code to answer with.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::IntervalTooBrief(_) => 423,
            Self::OutOfOrder => 500,
            Self::TooMany => 503,
            Self::BadStar | Self::TooLong => 400,
        }
    }
}

/// The location service (RFC 3261 §10): addresses-of-record and their bindings.
#[derive(Debug)]
pub struct Registrar {
    settings: Settings,
    aors_max: usize,
    /// Each list newest first and never empty.
    bindings: BTreeMap<Aor, Arc<[Binding]>>,
    /// For each address-of-record, when its first binding expires.
    due: BTreeSet<(Instant, Aor)>,
    len: usize,
    /// Addresses-of-record whose bindings are others than when `changes` was called last.
    changed: BTreeSet<Aor>,
}

impl Registrar {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_limit(settings, AORS_MAX)
    }

    /// With a limit of its own on addresses-of-record.
    #[must_use]
    pub fn with_limit(settings: Settings, aors_max: usize) -> Self {
        Self {
            settings,
            aors_max,
            bindings: BTreeMap::new(),
            due: BTreeSet::new(),
            len: 0,
            changed: BTreeSet::new(),
        }
    }

    /// Takes other settings; bindings there are keep the time they were granted.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Obeys a REGISTER as a whole or not at all (RFC 3261 §10.3 steps 6 to 8). Returns what the
    /// 200 lists: the current bindings, newest first.
    ///
    /// # Errors
    /// The reason nothing was changed.
    pub fn register(
        &mut self,
        aor: &Aor,
        request: &Registration,
        now: Instant,
    ) -> Result<Vec<&Binding>, Refused> {
        let new = self.weigh(aor, request, now)?;
        self.replace(aor, new);
        Ok(self.fetch(aor, now))
    }

    /// What a REGISTER would make of the bindings.
    ///
    /// # Errors
    /// The reason nothing would be changed.
    pub fn weigh(
        &self,
        aor: &Aor,
        request: &Registration,
        now: Instant,
    ) -> Result<Vec<Binding>, Refused> {
        let old = self.bindings.get(aor).map_or(&[][..], |list| list);
        let new = if request.star {
            removed(old, request)?
        } else {
            changed(old, request, &self.settings, now)?
        };
        if old.is_empty() && !new.is_empty() && self.bindings.len() >= self.aors_max {
            return Err(Refused::TooMany);
        }
        Ok(new)
    }

    /// The binding that a contact means.
    #[must_use]
    pub fn find(&self, aor: &Aor, change: &Change) -> Option<&Binding> {
        let bindings = self.bindings.get(aor)?;
        bindings.iter().find(|binding| is_same(binding, change))
    }

    /// The current bindings, the most recently refreshed first.
    #[must_use]
    pub fn fetch(&self, aor: &Aor, now: Instant) -> Vec<&Binding> {
        let list = self.bindings.get(aor).into_iter();
        list.flat_map(|list| list.iter())
            .filter(|binding| binding.expires_at > now)
            .collect()
    }

    /// Removes every binding of an address-of-record, whoever made it. Returns how many.
    pub fn remove(&mut self, aor: &Aor) -> usize {
        let count = self.bindings.get(aor).map_or(0, |list| list.len());
        self.replace(aor, Vec::new());
        count
    }

    /// Takes bindings as they were when an earlier process kept them, in place of those there are;
    /// that is no change. False: a limit of this file.
    pub fn restore(&mut self, aor: &Aor, bindings: Vec<Binding>) -> bool {
        let fits = bindings.len() <= BINDINGS_PER_AOR_MAX && self.bindings.len() < self.aors_max;
        if fits {
            self.replace(aor, bindings);
            self.changed.remove(aor);
        }
        fits
    }

    /// Counts an address-of-record among those that changed.
    pub fn touch(&mut self, aor: &Aor) {
        self.changed.insert(aor.clone());
    }

    /// The addresses-of-record that changed since the last call, each with all its bindings.
    pub fn changes(&mut self) -> Vec<(Aor, Arc<[Binding]>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let with_list = |aor: Aor| {
            let list = self.list(&aor);
            (aor, list)
        };
        changed.map(with_list).collect()
    }

    /// All an address-of-record has, for a replica.
    #[must_use]
    pub fn list(&self, aor: &Aor) -> Arc<[Binding]> {
        self.bindings.get(aor).cloned().unwrap_or_default()
    }

    /// Has what another registrar has, as a replica of it: the other one expires it.
    pub fn mirror(&mut self, aor: Aor, list: Arc<[Binding]>) {
        self.len += list.len();
        let old = if list.is_empty() {
            self.bindings.remove(&aor)
        } else {
            self.bindings.insert(aor, list)
        };
        self.len -= old.map_or(0, |old| old.len());
    }

    /// Removes the bindings whose time is over and returns them, the oldest expiry first.
    pub fn expire(&mut self, now: Instant) -> Vec<(Aor, Binding)> {
        let mut expired = Vec::new();
        while let Some((_, aor)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            let old = self
                .bindings
                .get(&aor)
                .map_or(&[][..], |list| list)
                .to_vec();
            let (over, kept): (Vec<_>, Vec<_>) = old.into_iter().partition(|b| b.expires_at <= now);
            self.replace(&aor, kept);
            expired.extend(over.into_iter().map(|binding| (aor.clone(), binding)));
        }
        expired.sort_by_key(|(_, binding)| binding.expires_at);
        expired
    }

    /// When `expire` has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// All bindings, by address-of-record, newest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Aor, &Binding)> {
        self.bindings
            .iter()
            .flat_map(|(aor, list)| list.iter().map(move |binding| (aor, binding)))
    }

    /// Addresses-of-record with bindings.
    pub fn registered(&self) -> impl Iterator<Item = &Aor> {
        self.bindings.keys()
    }

    /// Bindings of all addresses-of-record.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Addresses-of-record with bindings.
    #[must_use]
    pub fn aors(&self) -> usize {
        self.bindings.len()
    }

    /// Puts a new list in place of the old one, and keeps count and deadlines in step.
    fn replace(&mut self, aor: &Aor, new: Vec<Binding>) {
        let first = |list: &[Binding]| list.iter().map(|binding| binding.expires_at).min();
        if new.is_empty() && !self.bindings.contains_key(aor) {
            return;
        }
        self.changed.insert(aor.clone());
        let after = first(&new);
        self.len += new.len();
        let old = if new.is_empty() {
            self.bindings.remove(aor)
        } else {
            self.bindings.insert(aor.clone(), new.into())
        };
        let old = old.as_deref().unwrap_or_default();
        self.len -= old.len();
        if let Some(at) = first(old) {
            self.due.remove(&(at, aor.clone()));
        }
        if let Some(at) = after {
            self.due.insert((at, aor.clone()));
        }
    }
}

/// RFC 3261 §10.3 step 6: `*` removes everything, unless one binding has seen a later request.
fn removed(old: &[Binding], request: &Registration) -> Result<Vec<Binding>, Refused> {
    if !request.contacts.is_empty() || request.expires != Some(Duration::ZERO) {
        return Err(Refused::BadStar);
    }
    for binding in old {
        in_order(binding, request)?;
    }
    Ok(Vec::new())
}

/// RFC 3261 §10.3 step 7: what the list becomes, the contacts of this request first.
fn changed(
    old: &[Binding],
    request: &Registration,
    settings: &Settings,
    now: Instant,
) -> Result<Vec<Binding>, Refused> {
    within_limits(request)?;
    let mut kept = old.to_vec();
    let mut fresh: Vec<Binding> = Vec::new();
    for change in &request.contacts {
        let granted = granted(change, request, settings)?;
        let known = old.iter().find(|binding| is_same(binding, change));
        if let Some(binding) = known {
            in_order(binding, request)?;
            kept.retain(|binding| !is_same(binding, change));
        }
        // The same contact twice in one request: its last word counts.
        fresh.retain(|binding| !is_same(binding, change));
        if let Some(granted) = granted {
            fresh.push(bound(change, request, known, granted, now));
        }
    }
    fresh.append(&mut kept);
    let living = fresh.iter().filter(|binding| binding.expires_at > now);
    if !request.contacts.is_empty() && living.count() > BINDINGS_PER_AOR_MAX {
        return Err(Refused::TooMany);
    }
    Ok(fresh)
}

fn within_limits(request: &Registration) -> Result<(), Refused> {
    if request.contacts.len() > CONTACTS_PER_REQUEST_MAX || request.route.len() > ROUTES_MAX {
        return Err(Refused::TooMany);
    }
    let contacts = request.contacts.iter().flat_map(|change| {
        let instance = change.instance.as_ref().map_or(0, Vec::len);
        [change.contact.len(), instance]
    });
    let longest = contacts
        .chain(request.route.iter().map(Vec::len))
        .chain([request.call_id.len()])
        .max();
    match longest.cmp(&Some(FIELD_BYTES_MAX)) {
        Ordering::Greater => Err(Refused::TooLong),
        Ordering::Less | Ordering::Equal => Ok(()),
    }
}

/// How long a contact is bound; none if it is removed.
fn granted(
    change: &Change,
    request: &Registration,
    settings: &Settings,
) -> Result<Option<Duration>, Refused> {
    let wish = change
        .expires
        .or(request.expires)
        .unwrap_or(settings.expires_max);
    if wish.is_zero() {
        return Ok(None);
    }
    if wish < settings.expires_min {
        return Err(Refused::IntervalTooBrief(settings.expires_min));
    }
    let mut granted = wish.min(settings.expires_max);
    // A connection that ends says so.
    if request.natted && !request.path.on.transport.is_reliable() {
        granted = granted.min(settings.expires_natted_max);
    }
    let most = change.granted_max.unwrap_or(granted);
    Ok(Some(granted.min(most)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::id::{Listener, NetworkId, Path, Transport};

    const SETTINGS: Settings = Settings {
        expires_min: Duration::from_secs(60),
        expires_max: Duration::from_secs(3_600),
        expires_natted_max: Duration::from_secs(90),
    };

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had from the clock only; the tests count from this one"
    )]
    fn start() -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *START
    }

    fn path(port: u16) -> Path {
        Path {
            on: Listener {
                transport: Transport::Udp,
                local: "192.0.2.1:5060".parse().unwrap(),
            },
            to: SocketAddr::from(([198, 51, 100, 7], port)),
        }
    }

    /// `uri[;instance[;reg-id]][=expires]`
    fn change(text: &str) -> Change {
        let (text, expires) = match text.split_once('=') {
            Some((text, expires)) => (text, Some(secs(expires.parse().unwrap()))),
            None => (text, None),
        };
        let mut parts = text.split(';');
        Change {
            contact: parts.next().unwrap().into(),
            instance: parts.next().map(Into::into),
            reg_id: parts.next().map(|id| id.parse().unwrap()),
            expires,
            claimed: None,
            q: Q_DEFAULT,
            granted_max: None,
            upstream: None,
        }
    }

    /// A request of one Call-ID, its contacts separated by spaces; `*` is the star.
    fn request(call_id: &str, cseq: u32, contacts: &str) -> Registration {
        Registration {
            star: contacts.split(' ').any(|contact| contact == "*"),
            contacts: contacts
                .split(' ')
                .filter(|contact| !["", "*"].contains(contact))
                .map(change)
                .collect(),
            expires: None,
            call_id: call_id.into(),
            cseq,
            path: path(5_060),
            route: Vec::new(),
            network: NetworkId(0),
            via: None,
            natted: false,
            user_agent: None,
        }
    }

    fn secs(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    fn alice() -> Aor {
        Aor::new("alice", "Example.com")
    }

    /// Registers for alice and compares what the 200 lists, `uri=seconds left`, or the refusal. A
    /// refusal must leave everything as it was.
    fn check(registrar: &mut Registrar, at: u64, request: &Registration, expected: &str) {
        let now = start() + secs(at);
        let before = registrar.bindings.clone();
        let answer = match registrar.register(&alice(), request, now) {
            Ok(bindings) => list(&bindings, now),
            Err(refused) => {
                assert_eq!(registrar.bindings, before, "a refusal changes nothing");
                format!("{refused:?}")
            }
        };
        assert_eq!(answer, expected);
        consistent(registrar);
    }

    fn list(bindings: &[&Binding], now: Instant) -> String {
        let words: Vec<String> = bindings
            .iter()
            .map(|binding| {
                let left = binding.expires_at - now;
                format!(
                    "{}={}",
                    String::from_utf8_lossy(&binding.contact),
                    left.as_secs()
                )
            })
            .collect();
        words.join(" ")
    }

    fn consistent(registrar: &Registrar) {
        let due: BTreeSet<_> = registrar
            .bindings
            .iter()
            .map(|(aor, list)| {
                (
                    list.iter().map(|b| b.expires_at).min().unwrap(),
                    aor.clone(),
                )
            })
            .collect();
        assert_eq!(registrar.due, due);
        assert_eq!(registrar.len(), registrar.iter().count());
    }

    #[test]
    fn lifetimes_are_asked_for_granted_and_refused() {
        let lifetime = |contact: &str, header: Option<u64>, natted, expected: &str| {
            let mut registrar = Registrar::new(SETTINGS);
            let request = Registration {
                expires: header.map(secs),
                natted,
                ..request("c", 1, contact)
            };
            check(&mut registrar, 0, &request, expected);
        };
        lifetime("a", None, false, "a=3600");
        lifetime("a", Some(600), false, "a=600");
        lifetime("a=120", Some(600), false, "a=120");
        lifetime("a=4294967295", None, false, "a=3600");
        lifetime("a=60", None, false, "a=60");
        lifetime("a=59", None, false, "IntervalTooBrief(60s)");
        lifetime("a", Some(1), false, "IntervalTooBrief(60s)");
        lifetime("a b=59", None, false, "IntervalTooBrief(60s)");
        lifetime("a=0", None, false, "");
        lifetime("a", Some(0), false, "");
        lifetime("a b=0", None, false, "a=3600");
        lifetime("a", Some(600), true, "a=90");
        lifetime("a=60", None, true, "a=60");
    }

    #[test]
    fn a_query_changes_nothing() {
        let mut registrar = Registrar::new(SETTINGS);
        check(&mut registrar, 0, &request("c", 1, ""), "");
        check(&mut registrar, 0, &request("c", 1, "a b"), "a=3600 b=3600");
        check(&mut registrar, 10, &request("c", 1, ""), "a=3590 b=3590");
    }

    #[test]
    fn the_most_recently_refreshed_comes_first() {
        let mut registrar = Registrar::new(SETTINGS);
        check(&mut registrar, 0, &request("c", 1, "a"), "a=3600");
        check(&mut registrar, 1, &request("d", 1, "b"), "b=3600 a=3599");
        check(&mut registrar, 2, &request("c", 2, "a"), "a=3600 b=3599");
        let a = registrar.fetch(&alice(), start() + secs(2))[0];
        assert_eq!(a.registered_at, start());
        assert_eq!(a.refreshed_at, start() + secs(2));
    }

    #[test]
    fn within_a_call_id_only_a_higher_cseq_is_obeyed() {
        let mut registrar = Registrar::new(SETTINGS);
        check(&mut registrar, 0, &request("c", 5, "a"), "a=3600");
        check(&mut registrar, 1, &request("c", 4, "a"), "OutOfOrder");
        check(&mut registrar, 1, &request("c", 5, "a=0"), "OutOfOrder");
        // As a whole: the new contact of an old request is not bound either.
        check(&mut registrar, 1, &request("c", 4, "new a"), "OutOfOrder");
        check(&mut registrar, 1, &request("c", 6, "a"), "a=3600");
        // A client that restarted has another Call-ID and counts anew.
        check(&mut registrar, 2, &request("d", 1, "a"), "a=3600");
        assert_eq!(registrar.len(), 1);
    }

    #[test]
    fn a_star_removes_everything_or_nothing() {
        let star = |contacts: &str, call_id: &str, cseq, header: Option<u64>| Registration {
            expires: header.map(secs),
            ..request(call_id, cseq, contacts)
        };
        let mut registrar = Registrar::new(SETTINGS);
        check(&mut registrar, 0, &request("c", 5, "a"), "a=3600");
        check(&mut registrar, 0, &request("d", 1, "b"), "b=3600 a=3600");
        check(&mut registrar, 0, &star("*", "c", 6, None), "BadStar");
        check(&mut registrar, 0, &star("*", "c", 6, Some(60)), "BadStar");
        check(&mut registrar, 0, &star("* a", "c", 6, Some(0)), "BadStar");
        check(&mut registrar, 0, &star("*", "c", 5, Some(0)), "OutOfOrder");
        check(&mut registrar, 0, &star("*", "c", 6, Some(0)), "");
        assert!(registrar.is_empty());
        assert_eq!(registrar.next_timeout(), None);
        check(&mut registrar, 0, &star("*", "c", 7, Some(0)), "");
    }

    #[test]
    fn a_client_that_moves_keeps_its_binding() {
        let from = |port, call_id, contact| Registration {
            path: path(port),
            ..request(call_id, 1, contact)
        };
        let mut registrar = Registrar::new(SETTINGS);
        check(
            &mut registrar,
            0,
            &from(1_024, "c", "old;urn;1"),
            "old=3600",
        );
        check(
            &mut registrar,
            9,
            &from(2_048, "d", "new;urn;1"),
            "new=3600",
        );
        let binding = registrar.fetch(&alice(), start() + secs(9))[0];
        assert_eq!(binding.path, path(2_048));
        assert_eq!(binding.moved_from, Some(path(1_024)));
        assert_eq!(binding.registered_at, start());
        // Where it came from is not forgotten by a refresh.
        let refresh = Registration {
            cseq: 2,
            ..from(2_048, "d", "new;urn;1")
        };
        check(&mut registrar, 10, &refresh, "new=3600");
        let binding = registrar.fetch(&alice(), start() + secs(10))[0];
        assert_eq!(binding.moved_from, Some(path(1_024)));
    }

    #[test]
    fn clients_are_told_apart_by_what_they_say_of_themselves() {
        let apart = |one: &str, other: &str, expected: usize| {
            let mut registrar = Registrar::new(SETTINGS);
            for (call_id, contact) in [("c", one), ("d", other)] {
                let request = request(call_id, 1, contact);
                registrar.register(&alice(), &request, start()).unwrap();
            }
            assert_eq!(registrar.len(), expected, "{one} {other}");
        };
        apart("a", "a", 1);
        apart("a", "b", 2);
        // One router, one private address behind each of two clients.
        apart("a;phone", "a;room", 2);
        apart("a;phone;1", "b;phone;1", 1);
        apart("a;phone;1", "a;phone;2", 2);
        apart("a;phone", "b;phone", 1);
        // A phone that names its instance only now, or not when it leaves.
        apart("a", "a;phone", 1);
        apart("a;phone", "a", 1);
        apart("a;phone", "a=0", 0);
        apart("a;phone", "b", 2);
    }

    #[test]
    fn of_a_contact_named_twice_the_last_word_counts() {
        let mut registrar = Registrar::new(SETTINGS);
        check(&mut registrar, 0, &request("c", 1, "a=60 a=120"), "a=120");
        check(&mut registrar, 1, &request("c", 2, "a=60 a=0"), "");
        check(&mut registrar, 2, &request("c", 3, "a=0 a=60"), "a=60");
    }

    #[test]
    fn limits_refuse_and_change_nothing() {
        let mut registrar = Registrar::with_limit(SETTINGS, 1);
        let ten = "0 1 2 3 4 5 6 7 8 9";
        let full = ten.replace(' ', "=3600 ") + "=3600";
        check(
            &mut registrar,
            0,
            &request("c", 1, &format!("{ten} x")),
            "TooMany",
        );
        check(&mut registrar, 0, &request("c", 1, ten), &full);
        check(&mut registrar, 0, &request("d", 1, "x"), "TooMany");
        let swapped = full.replace("0=3600 1=", "x=3600 1=");
        check(&mut registrar, 0, &request("c", 2, "0=0 x"), &swapped);
        let many = "x=0 ".repeat(CONTACTS_PER_REQUEST_MAX + 1);
        check(&mut registrar, 0, &request("d", 2, many.trim()), "TooMany");
        let bob = Aor::new("bob", "example.com");
        let asked = registrar.register(&bob, &request("e", 1, "a"), start());
        assert_eq!(asked, Err(Refused::TooMany));
        let asked = registrar.register(&bob, &request("e", 1, ""), start());
        assert_eq!(asked, Ok(Vec::new()));
        assert_eq!(registrar.remove(&alice()), 10);
        assert_eq!(registrar.remove(&alice()), 0);
        let asked = registrar.register(&bob, &request("e", 1, "a"), start());
        assert!(asked.is_ok());
    }

    #[test]
    fn long_fields_are_refused_or_cut() {
        let long = |bytes: usize| "x".repeat(bytes);
        let mut registrar = Registrar::new(SETTINGS);
        check(
            &mut registrar,
            0,
            &request("c", 1, &long(FIELD_BYTES_MAX + 1)),
            "TooLong",
        );
        check(
            &mut registrar,
            0,
            &request(&long(FIELD_BYTES_MAX + 1), 1, "a"),
            "TooLong",
        );
        let routed = Registration {
            route: vec![long(FIELD_BYTES_MAX + 1).into()],
            ..request("c", 1, "a")
        };
        check(&mut registrar, 0, &routed, "TooLong");
        let named = Registration {
            user_agent: Some("é".repeat(USER_AGENT_BYTES_MAX)),
            ..request(&long(FIELD_BYTES_MAX), 1, "a")
        };
        check(&mut registrar, 0, &named, "a=3600");
        let (_, binding) = registrar.iter().next().unwrap();
        let kept = binding.user_agent.as_deref().map(str::len);
        assert_eq!(kept, Some(USER_AGENT_BYTES_MAX));
    }

    #[test]
    fn bindings_expire_at_their_time() {
        let mut registrar = Registrar::new(SETTINGS);
        check(
            &mut registrar,
            0,
            &request("c", 1, "a=100 b=60"),
            "a=100 b=60",
        );
        let bob = Aor::new("bob", "example.com");
        let eighty = request("e", 1, "x=80");
        registrar.register(&bob, &eighty, start()).unwrap();
        assert_eq!(registrar.next_timeout(), Some(start() + secs(60)));
        assert_eq!(registrar.expire(start() + secs(59)), []);
        assert_eq!(
            list(&registrar.fetch(&alice(), start() + secs(60)), start()),
            "a=100"
        );
        let expired = registrar.expire(start() + secs(100));
        let order: Vec<_> = expired
            .iter()
            .map(|(aor, binding)| format!("{aor} {}", String::from_utf8_lossy(&binding.contact)))
            .collect();
        assert_eq!(
            order,
            [
                "alice@example.com b",
                "bob@example.com x",
                "alice@example.com a"
            ]
        );
        assert!(registrar.is_empty());
        assert_eq!(registrar.aors(), 0);
        assert_eq!(registrar.next_timeout(), None);
        consistent(&registrar);
    }

    #[test]
    fn a_refusal_has_a_status() {
        assert_eq!(Refused::IntervalTooBrief(secs(60)).code(), 423);
        assert_eq!(Refused::OutOfOrder.code(), 500);
        assert_eq!(Refused::TooMany.code(), 503);
        assert_eq!(Refused::BadStar.code(), 400);
        assert_eq!(Refused::TooLong.code(), 400);
    }

    mod random {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            /// Whatever is registered, limits hold, books balance, and time ends everything.
            #[test]
            fn books_balance(
                steps in prop::collection::vec(
                    (0usize..4, 0u32..6, "([a-e](;[pq])?(=0|=60|=300)? ){0,4}|[*]", 0u64..90),
                    0..40,
                ),
            ) {
                let mut registrar = Registrar::with_limit(SETTINGS, 3);
                let mut now = start();
                for (user, cseq, contacts, wait) in steps {
                    let aor = Aor::new(&user.to_string(), "example.com");
                    let request = Registration {
                        expires: contacts.starts_with('*').then_some(Duration::ZERO),
                        ..request("c", cseq, &contacts)
                    };
                    let before = registrar.bindings.clone();
                    if registrar.register(&aor, &request, now).is_err() {
                        prop_assert_eq!(&registrar.bindings, &before);
                    }
                    consistent(&registrar);
                    prop_assert!(registrar.aors() <= 3);
                    now += secs(wait);
                    for (_, binding) in registrar.expire(now) {
                        prop_assert!(binding.expires_at <= now);
                    }
                    consistent(&registrar);
                    prop_assert!(registrar.iter().all(|(_, b)| b.expires_at > now));
                }
                registrar.expire(now + SETTINGS.expires_max);
                prop_assert!(registrar.is_empty());
            }
        }
    }
}
