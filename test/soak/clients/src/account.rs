//! Whether a connection got what it was to get: every publication that it chose, or word that it is missing.
//!
//! What the connection receives is noted at once and compared with the ledger when the observers have come that far. It
//! has a position, up to which all is accounted for. Between the position and the next publication as many chosen ones
//! must be missing as its gap frames tell.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::choice::{Class, Table};
use crate::frames::Message;
use crate::ledger::{Entry, Ledger};
use crate::order::Order;
use crate::tally::Tally;

#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    noted: VecDeque<Noted>,
    table: Table,
    /// What the connection had before it asked for a replay, and up to where.
    had: Option<(Table, u64)>,
    /// None while only the server knows where a replay of the newest begins.
    position: Option<u64>,
    /// Messages that gap frames told of since the position.
    told: u64,
    /// The largest `next` of these frames.
    told_next: u64,
    order: Order,
}

#[derive(Debug)]
enum Noted {
    Message { seq: u64, class: Class },
    Loss { seq: u64, messages: u64 },
    Slow { dropped: u64, after: u64, next: u64 },
    CompleteTo { seq: u64 },
    Forgotten { after: u64, next: u64 },
    Chosen { seq: u64, table: Table },
    Replay { seq: u64, since: u64, table: Table },
}

impl Noted {
    /// How far the observers must be.
    fn needs(&self) -> u64 {
        match self {
            Self::Message { seq, .. }
            | Self::Loss { seq, .. }
            | Self::CompleteTo { seq }
            | Self::Chosen { seq, .. }
            | Self::Replay { seq, .. } => *seq,
            Self::Forgotten { after, .. } => *after,
            Self::Slow { .. } => 0,
        }
    }
}

/// What lies between two numbers.
#[derive(Debug, Default, Clone, Copy)]
struct Between {
    /// Messages that the connection was to get, or to be told of.
    due: u64,
    /// Lost messages that it may have to be told of: their topics are not known here.
    possibly_due: u64,
    unknown: u64,
}

impl Account {
    pub(crate) fn new(ledger: Arc<Ledger>, table: Table, position: Option<u64>) -> Self {
        Self {
            ledger,
            noted: VecDeque::new(),
            order: Order::new(&table),
            table,
            had: None,
            position,
            told: 0,
            told_next: 0,
        }
    }

    pub(crate) fn message(&mut self, seq: u64, message: Message) -> Result<(), String> {
        self.noted.push_back(Noted::Message {
            seq,
            class: message.class,
        });
        self.order.message(message)
    }

    /// A gap frame of reason `overload`, which has a number of its own.
    pub(crate) fn loss(&mut self, seq: u64, messages: u64) {
        self.order.told(messages);
        self.noted.push_back(Noted::Loss { seq, messages });
    }

    /// A gap frame of reason `slow`.
    pub(crate) fn slow(&mut self, dropped: u64, after: u64, next: u64) {
        self.order.told(dropped);
        self.noted.push_back(Noted::Slow {
            dropped,
            after,
            next,
        });
    }

    /// A gap frame of reason `expired` or `epoch`.
    pub(crate) fn forgotten(&mut self, after: u64, next: u64) {
        self.order.begin();
        self.noted.push_back(Noted::Forgotten { after, next });
    }

    /// The connection has been sent everything up to a number.
    pub(crate) fn complete_to(&mut self, seq: u64) -> Result<(), String> {
        self.noted.push_back(Noted::CompleteTo { seq });
        self.order.check()
    }

    /// From a number on something else is chosen.
    pub(crate) fn choose(&mut self, seq: u64, table: Table) -> Result<(), String> {
        self.order.check()?;
        self.order = Order::new(&table);
        self.noted.push_back(Noted::Chosen { seq, table });
        Ok(())
    }

    /// As [`Self::choose`], and what is new is sent again from `since` on.
    pub(crate) fn replay(&mut self, seq: u64, since: u64, table: Table) -> Result<(), String> {
        self.order.check()?;
        self.order = Order::of_replay();
        self.noted.push_back(Noted::Replay { seq, since, table });
        Ok(())
    }

    /// Whether everything noted has been compared.
    pub(crate) fn is_settled(&self) -> bool {
        self.noted.is_empty()
    }

    /// Compares as much as the observers know by now.
    pub(crate) fn compare(&mut self, tally: &Tally) -> Result<(), String> {
        let known = self.ledger.complete_to();
        while self
            .noted
            .front()
            .is_some_and(|noted| noted.needs() <= known)
        {
            if let Some(noted) = self.noted.pop_front() {
                self.compare_one(noted, tally)?;
            }
        }
        Ok(())
    }

    fn compare_one(&mut self, noted: Noted, tally: &Tally) -> Result<(), String> {
        match noted {
            Noted::Message { seq, class } => {
                self.come_to(seq, tally)?;
                match self.ledger.get(seq) {
                    Entry::Message(written) if written != class => {
                        return Err(format!("{seq} is {class:?} here, {written:?} elsewhere"));
                    }
                    Entry::Loss(_) => return Err(format!("{seq} is a loss elsewhere")),
                    _ => {}
                }
                if !self.is_wanted(seq, class) {
                    return Err(format!("{seq} of {class:?} was not asked for"));
                }
                tally.compared.add(1);
            }
            Noted::Loss { seq, messages } => {
                self.come_to(seq, tally)?;
                match self.ledger.get(seq) {
                    Entry::Loss(written) if written != messages => {
                        return Err(format!(
                            "{seq} tells of {messages} lost messages here, {written} elsewhere"
                        ));
                    }
                    Entry::Message(_) => return Err(format!("{seq} is a message elsewhere")),
                    _ => {}
                }
            }
            Noted::Slow {
                dropped,
                after,
                next,
            } => {
                if self.position.is_some_and(|position| after < position) || next <= after {
                    return Err(format!(
                        "a gap after {after} before {next}, all was here up to {:?}",
                        self.position
                    ));
                }
                self.told += dropped;
                self.told_next = self.told_next.max(next);
            }
            Noted::CompleteTo { seq } => self.complete(seq, tally)?,
            Noted::Forgotten { after, next } => {
                self.complete(after, tally)?;
                self.position = Some(next - 1);
            }
            Noted::Chosen { seq, table } => {
                self.complete(seq, tally)?;
                self.table = table;
                self.had = None;
            }
            Noted::Replay { seq, since, table } => {
                self.complete(seq, tally)?;
                let had = std::mem::replace(&mut self.table, table);
                self.had = Some((had, seq));
                self.position = Some(since);
            }
        }
        Ok(())
    }

    /// The publication of that number is here: what is missing before it?
    fn come_to(&mut self, seq: u64, tally: &Tally) -> Result<(), String> {
        match self.position {
            Some(position) if seq <= position => Err(format!("{seq} came after {position}")),
            Some(_) if seq < self.told_next => {
                Err(format!("{seq} came after a gap before {}", self.told_next))
            }
            position => {
                self.check_missing(position, seq, tally)?;
                self.position = Some(seq);
                Ok(())
            }
        }
    }

    /// The same for a number that is not to come itself.
    fn complete(&mut self, seq: u64, tally: &Tally) -> Result<(), String> {
        if self.position.is_none_or(|position| position < seq) {
            self.check_missing(self.position, seq + 1, tally)?;
            self.position = Some(seq);
        }
        Ok(())
    }

    fn check_missing(
        &mut self,
        position: Option<u64>,
        end: u64,
        tally: &Tally,
    ) -> Result<(), String> {
        let told = std::mem::take(&mut self.told);
        self.told_next = 0;
        let Some(position) = position else {
            return Ok(());
        };
        let between = self.between(position + 1, end);
        let (least, most) = (between.due, between.due + between.possibly_due);
        // Under a number that nobody knows may stand any number of lost messages.
        if told < least || (told > most && between.unknown == 0) {
            return Err(format!(
                "{told} messages are told to be missing between {position} and {end}, but it is {between:?}"
            ));
        }
        if told > 0 {
            if least == most && between.unknown == 0 {
                tally.gaps_exact.add(1);
            } else {
                tally.gaps_within_bounds.add(1);
            }
        }
        Ok(())
    }

    fn between(&self, from: u64, end: u64) -> Between {
        let mut between = Between::default();
        for seq in from..end {
            match self.ledger.get(seq) {
                Entry::Unknown => between.unknown += 1,
                Entry::Message(class) => between.due += u64::from(self.is_wanted(seq, class)),
                Entry::Loss(messages) => match &self.had {
                    Some((had, until)) if seq <= *until => {
                        if !had.is_everything() {
                            between.possibly_due += messages;
                        }
                    }
                    _ if self.table.is_everything() => between.due += messages,
                    _ => between.possibly_due += messages,
                },
            }
        }
        between
    }

    fn is_wanted(&self, seq: u64, class: Class) -> bool {
        let has_had = |(had, until): &(Table, u64)| seq <= *until && had.chooses(class);
        self.table.chooses(class) && !self.had.as_ref().is_some_and(has_had)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::{Choice, Selection};

    fn table(topics: &[usize]) -> Table {
        Selection::of(topics.iter().copied().map(Choice::Topic)).table()
    }

    fn message(topic: usize, seq: u64) -> Message {
        Message {
            class: Class::new(topic, 0),
            of_topic: seq.div_ceil(2),
            of_source: seq,
        }
    }

    /// Messages of topic 1 under odd numbers, of topic 2 under even ones, and two lost ones under 9.
    fn ledger() -> Arc<Ledger> {
        let ledger = Ledger::new();
        for seq in 1..=20 {
            ledger.message(seq, Class::new(if seq % 2 == 1 { 1 } else { 2 }, 0));
        }
        ledger.loss(9, 2);
        ledger.seen(0, 20);
        ledger.seen(1, 20);
        Arc::new(ledger)
    }

    fn account(topics: &[usize]) -> Account {
        Account::new(ledger(), table(topics), Some(0))
    }

    /// What a client of topic 1 finds when it gets these.
    fn compare(seqs: &[u64], gaps: &[(u64, u64, u64)], until: u64) -> Result<(), String> {
        let mut account = account(&[1]);
        for seq in seqs {
            for (after, next, dropped) in gaps.iter().filter(|(_, next, _)| next == seq) {
                account.slow(*dropped, *after, *next);
            }
            account.message(*seq, message(1, *seq))?;
        }
        for (after, next, dropped) in gaps.iter().filter(|(_, next, _)| *next > until) {
            account.slow(*dropped, *after, *next);
        }
        // The order is told apart in its own tests.
        account.noted.push_back(Noted::CompleteTo { seq: until });
        account.compare(&Tally::default())
    }

    #[test]
    fn all_that_was_chosen_is_right() {
        assert_eq!(compare(&[1, 3, 5, 7], &[], 8), Ok(()));
    }

    #[test]
    fn a_missing_message_must_be_told_of() {
        assert!(compare(&[1, 3, 7], &[], 8).is_err());
        assert!(compare(&[1, 3, 5], &[], 8).is_err());
        assert!(compare(&[3, 5, 7], &[], 8).is_err());
        assert_eq!(compare(&[1, 3, 7], &[(4, 7, 1)], 8), Ok(()));
        assert_eq!(compare(&[1, 3], &[(4, 9, 2)], 8), Ok(()));
        assert_eq!(compare(&[7], &[(0, 7, 3)], 8), Ok(()));
    }

    #[test]
    fn gaps_must_be_exact() {
        assert!(compare(&[1, 3, 7], &[(4, 7, 2)], 8).is_err());
        assert!(compare(&[1, 3, 5, 7], &[(4, 5, 1)], 8).is_err());
        assert!(compare(&[1, 3, 5, 7], &[(0, 5, 1)], 8).is_err());
    }

    #[test]
    fn losses_may_be_among_what_is_missing_or_not_concern_it() {
        assert_eq!(compare(&[1, 3, 5, 7, 11], &[], 12), Ok(()));
        assert_eq!(compare(&[1, 3, 5, 7, 11], &[(7, 11, 2)], 12), Ok(()));
        assert!(compare(&[1, 3, 5, 7, 11], &[(7, 11, 3)], 12).is_err());
        let mut account = account(&[1, 2]);
        account.position = Some(7);
        account.loss(9, 1);
        assert!(account.compare(&Tally::default()).is_err());
    }

    #[test]
    fn a_message_comes_once_in_order_and_only_when_chosen() {
        for seqs in [&[1, 3, 3][..], &[1, 3, 1], &[1, 2, 3]] {
            assert!(compare(seqs, &[], 4).is_err(), "{seqs:?}");
        }
    }

    #[test]
    fn what_is_chosen_changes_at_a_number() {
        for (is_right, seqs) in [
            (true, &[1, 3, 6, 8][..]),
            (false, &[1, 3, 4, 6, 8]),
            (false, &[1, 3, 8]),
        ] {
            let mut account = account(&[1]);
            for seq in seqs {
                if *seq == 6 || *seq == 8 && !seqs.contains(&6) {
                    account.choose(4, table(&[2])).unwrap();
                }
                let topic = if seq % 2 == 1 { 1 } else { 2 };
                account.message(*seq, message(topic, *seq)).unwrap();
            }
            assert_eq!(
                account.compare(&Tally::default()).is_ok(),
                is_right,
                "{seqs:?}"
            );
        }
    }

    #[test]
    fn a_replay_brings_what_is_new() {
        let mut account = account(&[1]);
        for seq in [1, 3, 5] {
            account.message(seq, message(1, seq)).unwrap();
        }
        account.replay(6, 2, table(&[1, 2])).unwrap();
        for seq in [4, 6] {
            account.message(seq, message(2, seq)).unwrap();
        }
        account.message(7, message(1, 7)).unwrap();
        account.compare(&Tally::default()).unwrap();
        assert_eq!(account.position, Some(7));
    }

    #[test]
    fn what_was_lost_is_told_to_who_has_everything_and_only_once() {
        let everything = Selection::of([Choice::Everything]).table();
        for (is_right, told) in [(true, 2), (false, 0), (false, 1), (false, 3)] {
            let mut account = Account::new(ledger(), everything.clone(), Some(8));
            account.slow(told, 8, 10);
            account.noted.push_back(Noted::CompleteTo { seq: 9 });
            assert_eq!(
                account.compare(&Tally::default()).is_ok(),
                is_right,
                "{told}"
            );
        }
        let mut account = Account::new(ledger(), everything.clone(), Some(20));
        account.replay(20, 5, everything).unwrap();
        account.complete_to(20).unwrap();
        account.compare(&Tally::default()).unwrap();
    }

    #[test]
    fn nothing_is_compared_before_the_observers_are_there() {
        let ledger = Arc::new(Ledger::new());
        ledger.message(1, Class::new(1, 0));
        ledger.seen(0, 1);
        let mut account = Account::new(ledger.clone(), table(&[1]), Some(0));
        account.complete_to(1).unwrap();
        account.compare(&Tally::default()).unwrap();
        assert!(!account.is_settled());
        ledger.seen(1, 1);
        assert!(account.compare(&Tally::default()).is_err());
    }
}
