//! Conferences of before the start go on.

use std::collections::BTreeMap;

use crate::bus::moment::Now;
use crate::conference::record::Kept;
use crate::conference::{Conference, Steps};
use crate::effect;

use super::{Effects, Plane};

impl Plane {
    pub(super) fn restored(&mut self, all: Vec<effect::Kept>, now: Now, effects: &mut Effects) {
        let mut by_cid: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
        for kept in all {
            let key = std::str::from_utf8(&kept.key).unwrap_or_default();
            let Some((cid, key)) = key.split_once('/') else {
                continue;
            };
            let kept = Kept {
                key: key.to_owned(),
                at: kept.record.at,
                bytes: kept.record.bytes,
            };
            by_cid.entry(cid.to_owned()).or_default().push(kept);
        }
        for (cid, kept) in by_cid {
            let home = cid.rsplit_once('~').map(|(home, _)| home);
            if home != Some(self.sid.as_str()) {
                self.recall(&cid, &kept, effects);
                continue;
            }
            let (names, floors) = ((&*self.sid, &*cid), &self.settings.floors);
            let mut steps = Steps::default();
            let restored = Conference::restore(names, &kept, floors, now, &mut steps);
            let Some(mut conference) = restored else {
                *self.counts.unplaced.entry("record_damaged").or_default() += 1;
                // Nothing can be made of it now or later.
                let keys = kept.into_iter().map(|kept| (kept.key, None));
                steps.keep = keys.collect();
                self.perform(&cid, steps, now, effects);
                continue;
            };
            self.by_uri.insert(conference.uri().to_owned(), cid.clone());
            conference.share_as_told(&self.settings.share, &mut steps);
            let next = conference.next();
            self.conferences.insert(cid.clone(), conference);
            self.schedule(&cid, next);
            self.perform(&cid, steps, now, effects);
            self.announce(&cid, now, effects);
        }
    }
}
