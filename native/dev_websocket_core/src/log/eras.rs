//! Sequence numbers as clients see them.
//!
//! The log numbers its publications 1, 2, 3 and so on; these are places. Clients see an epoch and a number. For a
//! server of its own both are the same. Where a stream gives the numbers, they may begin anywhere, jump, or begin again
//! under another epoch: each such break begins an era. Everything inside the server uses places.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::wire::cursor::{CursorError, Since};

/// The maximum number of remembered eras. An older one counts as part of the oldest that is remembered.
const MAX_ERAS: usize = 1024;

/// The eras of a server, the current one last; there is always one.
#[derive(Debug)]
pub(crate) struct Eras(ArcSwap<Vec<Era>>);

/// Consecutive places with consecutive numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Era {
    epoch: Arc<str>,
    /// The first place, and its number.
    place: u64,
    number: u64,
}

/// An epoch and a number in it, as clients see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) epoch: Arc<str>,
    pub(crate) number: u64,
}

/// The place of a client's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The client has everything up to this place.
    At(u64),
    /// Numbers after the cursor were never in this log; the next publication is the one after this place.
    Before(u64),
    /// The cursor belongs to another epoch. The current one begins after this place.
    OtherEpoch(u64),
}

impl Eras {
    /// Starts with a single era of a server that numbers its publications itself.
    pub(crate) fn new(epoch: &str) -> Self {
        Self(ArcSwap::from_pointee(vec![Era {
            epoch: epoch.into(),
            place: 0,
            number: 0,
        }]))
    }

    /// Begins an era: this place, which is empty still, has this number. Nothing remains of earlier eras if it is the
    /// place before the first publication.
    pub(crate) fn begin(&self, epoch: &str, place: u64, number: u64) {
        let mut eras: Vec<Era> = (**self.0.load()).clone();
        eras.retain(|era| era.place < place);
        let excess = (eras.len() + 1).saturating_sub(MAX_ERAS);
        eras.drain(..excess);
        eras.push(Era {
            epoch: epoch.into(),
            place,
            number,
        });
        self.0.store(Arc::new(eras));
    }

    /// Returns the current epoch.
    pub(crate) fn epoch(&self) -> Arc<str> {
        self.at(u64::MAX).epoch
    }

    /// Returns what clients see of a place.
    pub(crate) fn at(&self, place: u64) -> Shown {
        let eras = self.0.load();
        let era = era_of(&eras, place);
        Shown {
            epoch: era.epoch.clone(),
            number: number_in(era, place),
        }
    }

    /// Returns the number of a place.
    pub(crate) fn number(&self, place: u64) -> u64 {
        number_in(era_of(&self.0.load(), place), place)
    }

    /// Returns the first number that stands at a place or after it. A notice of this server alone has the number before.
    pub(crate) fn next_number(&self, place: u64) -> u64 {
        self.number(place.saturating_sub(1)).saturating_add(1)
    }

    /// Refuses a cursor that is more than `slack` numbers ahead of the newest publication.
    pub(crate) fn check(&self, since: &Since, newest: u64, slack: u64) -> Result<(), CursorError> {
        let newest = self.at(newest);
        since.check(&newest.epoch, newest.number.saturating_add(slack))
    }

    /// Returns the current epoch, and the place after which it begins.
    pub(crate) fn beginning(&self) -> (Arc<str>, u64) {
        let eras = self.0.load();
        let current = &eras[eras.len() - 1];
        (current.epoch.clone(), first_of_epoch(&eras).place)
    }

    /// Finds the place of a cursor.
    pub(crate) fn find(&self, since: &Since) -> Found {
        let eras = self.0.load();
        let current = &eras[eras.len() - 1];
        let of_epoch = eras
            .iter()
            .rev()
            .take_while(|era| era.epoch == current.epoch);
        let first = first_of_epoch(&eras);
        if !since.is_of(&current.epoch) {
            return Found::OtherEpoch(first.place);
        }
        // The place after which the next era begins, which stands for all numbers that it skips.
        let mut end = u64::MAX;
        for era in of_epoch {
            if since.seq >= era.number {
                return Found::At(era.place.saturating_add(since.seq - era.number).min(end));
            }
            end = era.place.saturating_sub(1);
        }
        Found::Before(first.place)
    }
}

/// Returns the first era of the current epoch.
fn first_of_epoch(eras: &[Era]) -> &Era {
    let current = &eras[eras.len() - 1];
    let of_epoch = eras
        .iter()
        .rev()
        .take_while(|era| era.epoch == current.epoch);
    of_epoch.last().unwrap_or(current)
}

fn era_of(eras: &[Era], place: u64) -> &Era {
    let after = eras.partition_point(|era| era.place <= place);
    &eras[after.saturating_sub(1)]
}

/// Returns the number of a place. One from before the oldest remembered era has the number of its beginning.
fn number_in(era: &Era, place: u64) -> u64 {
    era.number.saturating_add(place.saturating_sub(era.place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(text: &str) -> Since {
        Since::parse(text).unwrap()
    }

    fn shown(eras: &Eras, place: u64) -> (String, u64) {
        let Shown { epoch, number } = eras.at(place);
        assert_eq!(eras.number(place), number);
        (epoch.to_string(), number)
    }

    #[test]
    fn a_server_of_its_own_shows_its_places() {
        let eras = Eras::new("own");
        for place in [0, 1, 17, u64::MAX] {
            assert_eq!(shown(&eras, place), ("own".to_owned(), place));
            assert_eq!(eras.find(&since(&place.to_string())), Found::At(place));
        }
        assert_eq!(eras.find(&since("own:3")), Found::At(3));
        assert_eq!(eras.find(&since("other:3")), Found::OtherEpoch(0));
        assert_eq!(
            eras.check(&since("own:6"), 5, 0),
            Err(CursorError::Future(5))
        );
        assert_eq!(eras.check(&since("own:5"), 5, 0), Ok(()));
    }

    /// The stream begins at 500; 503 to 509 are missing; then it is made anew and has nothing below 3.
    fn broken() -> Eras {
        let eras = Eras::new("own");
        eras.begin("a", 0, 499);
        // Places 1 to 3 are 500 to 502, place 4 is the notice, place 5 is 510.
        eras.begin("a", 4, 509);
        eras
    }

    #[test]
    fn a_jump_is_where_its_notice_is() {
        let eras = broken();
        for (place, number) in [(0, 499), (1, 500), (3, 502), (4, 509), (5, 510), (9, 514)] {
            assert_eq!(shown(&eras, place), ("a".to_owned(), number));
        }
        for (number, found) in [
            (498, Found::Before(0)),
            (499, Found::At(0)),
            (500, Found::At(1)),
            (502, Found::At(3)),
            // A client of another node has some of the missing numbers; the notice comes next.
            (503, Found::At(3)),
            (508, Found::At(3)),
            (509, Found::At(4)),
            (514, Found::At(9)),
        ] {
            assert_eq!(eras.find(&since(&format!("a:{number}"))), found, "{number}");
            assert_eq!(eras.find(&since(&number.to_string())), found, "{number}");
        }
        assert_eq!(eras.find(&since("own:3")), Found::OtherEpoch(0));
    }

    #[test]
    fn an_epoch_ends_at_its_notice() {
        let eras = broken();
        // Place 10 is the notice.
        eras.begin("b", 10, 2);
        assert_eq!(shown(&eras, 9), ("a".to_owned(), 514));
        assert_eq!(shown(&eras, 10), ("b".to_owned(), 2));
        assert_eq!(shown(&eras, 11), ("b".to_owned(), 3));
        assert_eq!(&*eras.epoch(), "b");
        assert_eq!(eras.find(&since("a:512")), Found::OtherEpoch(10));
        assert_eq!(eras.find(&since("b:1")), Found::Before(10));
        assert_eq!(eras.find(&since("b:2")), Found::At(10));
        assert_eq!(eras.find(&since("4")), Found::At(12));
        assert_eq!(
            eras.check(&since("b:4"), 11, 0),
            Err(CursorError::Future(3))
        );
        assert_eq!(eras.check(&since("a:4000"), 11, 0), Ok(()));
        assert_eq!(eras.check(&since("b:4"), 11, 1), Ok(()));
        assert_eq!(
            eras.check(&since("b:5"), 11, 1),
            Err(CursorError::Future(4))
        );
    }

    #[test]
    fn only_so_many_eras_are_remembered() {
        let eras = Eras::new("own");
        for jump in 1..=3000 {
            eras.begin("a", jump * 10, jump * 100);
        }
        assert_eq!(eras.0.load().len(), MAX_ERAS);
        assert_eq!(shown(&eras, 30_007), ("a".to_owned(), 300_007));
        let oldest = (3000 - MAX_ERAS as u64 + 1) * 10;
        assert_eq!(eras.number(oldest - 5), oldest * 10);
        assert_eq!(eras.find(&since("a:7")), Found::Before(oldest));
    }
}
