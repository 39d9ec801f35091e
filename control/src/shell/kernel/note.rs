//! What one daemon leaves to the next beside the flows: in `FLOWS[SLOT_NONE]`, which the program
//! never reads.

use common::flow::Flow;

/// Slots the note is ahead of those in use, at most: it is written once for so many.
const AHEAD: u32 = 1_024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Note {
    /// Handed to the next use of a stats slot. Zero is what one holds that was never used.
    pub(super) generation: u32,
    /// No port points at slots of FLOWS from here on.
    pub(super) unwritten: u32,
}

impl Default for Note {
    fn default() -> Self {
        Self {
            generation: 1,
            unwritten: 0,
        }
    }
}

impl Note {
    /// The note to leave before that slot is written; none if this one says enough.
    pub(super) fn writing(self, slot: u32) -> Option<Self> {
        (slot >= self.unwritten).then(|| self.reaching(slot))
    }

    /// With room for that slot and no more than `AHEAD` others.
    pub(super) fn reaching(self, slot: u32) -> Self {
        Self {
            unwritten: (slot / AHEAD).saturating_add(1).saturating_mul(AHEAD),
            ..self
        }
    }

    /// Once its generation is in use.
    pub(super) fn counted(self) -> Self {
        Self {
            generation: self.generation.checked_add(1).unwrap_or(1),
            ..self
        }
    }
}

impl From<Note> for Flow {
    fn from(note: Note) -> Self {
        let mut flow = Self::default();
        flow.generation = note.generation;
        flow.stats = note.unwritten;
        flow
    }
}

impl From<Flow> for Note {
    fn from(flow: Flow) -> Self {
        Self {
            generation: flow.generation.max(1),
            unwritten: flow.stats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_ahead_of_every_slot() {
        let check = |slot, unwritten| {
            let note = Note::default().reaching(slot);
            assert_eq!((note.generation, note.unwritten), (1, unwritten));
            assert_eq!(Note::from(Flow::from(note)), note);
            assert_eq!(note.writing(slot), None);
            assert_eq!(note.writing(unwritten - 1), None);
            assert!(note.writing(unwritten).unwrap().unwritten > unwritten);
        };
        check(0, 1_024);
        check(1_023, 1_024);
        check(1_024, 2_048);
        check(131_072, 132_096);
    }

    #[test]
    fn a_new_map_says_that_nothing_was_written() {
        assert_eq!(Note::from(Flow::default()), Note::default());
        assert!(Note::default().writing(1).is_some());
        let last = Note {
            generation: u32::MAX,
            ..Note::default()
        };
        assert_eq!(last.counted().generation, 1);
    }
}
