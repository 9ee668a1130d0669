//! Replays against a plain list: random sizes, topics and subscriptions, bounds of the history that change meanwhile.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::log::buffer_pool::BufferPool;
use crate::log::publication::draft::Draft;
use crate::message::Value;
use crate::message::provenance::UNKNOWN;
use crate::message::topic::Topic;
use crate::subscription::Subscription;
use crate::subscription::pattern::Pattern;
use crate::subscription::template::Template;

const NAMES: [&str; 5] = ["a", "b", "ab", "ba", "rare"];
const KINDS: usize = 3;
/// Small ones, and those of which a segment holds few or one.
const SIZES: [usize; 6] = [0, 100, 2_000, 10_000, 70_000, 300_000];
const MOST_STEPS: usize = 100_000;

/// What is published: topics as bits, a kind, a size.
type Message = (u8, usize, usize);

/// What the log is to hold, as a plain list.
#[derive(Default)]
struct Model {
    messages: Vec<Message>,
    sizes: Vec<u64>,
    limit: u64,
    /// The number of the oldest that is kept, and the sizes of all that are.
    oldest: Seq,
    kept: u64,
}

impl Model {
    fn append(&mut self, log: &Log, message: Message) {
        let (bits, kind, size) = message;
        let topics = (0..NAMES.len()).filter(|bit| bits & (1 << bit) != 0);
        let topics = topics.map(|bit| Topic::new(NAMES[bit]).unwrap()).collect();
        let value = Value::Map(vec![
            ("kind".into(), Value::Integer(kind as i64)),
            ("data".into(), Value::Text("x".repeat(size).into())),
        ]);
        let buffers = BufferPool::default();
        let draft = Draft::encode(&buffers, topics, &value, &UNKNOWN, 1 << 20, false).unwrap();
        self.sizes.push(draft.footprint() as u64);
        self.kept += draft.footprint() as u64;
        self.messages.push(message);
        log.append(draft, u64::MAX).unwrap();
        self.forget();
    }

    fn keep(&mut self, log: &Log, limit: u64) {
        self.limit = limit;
        log.keep(limit);
        self.forget();
    }

    fn forget(&mut self) {
        while self.oldest <= self.last() && self.kept > self.limit {
            self.kept -= self.sizes[self.oldest as usize - 1];
            self.oldest += 1;
        }
    }

    fn last(&self) -> Seq {
        self.messages.len() as Seq
    }
}

/// One subscription: a topic, a glob, an expression, everything or a template.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Topic(usize),
    Glob,
    Regex,
    Everything,
    Template(usize),
}

impl Wanted {
    fn subscription(self) -> Subscription {
        match self {
            Self::Topic(name) => Subscription::parse(NAMES[name]).unwrap(),
            Self::Glob => Subscription::parse("a*").unwrap(),
            Self::Regex => Subscription::Pattern(Pattern::regex("[ab]{2}").unwrap()),
            Self::Everything => Subscription::Everything,
            Self::Template(kind) => {
                Subscription::Template(Template::from_json(json!({"kind": kind})).unwrap())
            }
        }
    }

    fn is_template(self) -> bool {
        matches!(self, Self::Template(_))
    }

    fn matches(self, (bits, kind, _): Message) -> bool {
        let has = |place: usize| bits & (1 << place) != 0;
        match self {
            Self::Topic(name) => has(name),
            Self::Glob => has(0) || has(2),
            Self::Regex => has(2) || has(3),
            Self::Everything => true,
            Self::Template(wanted) => kind == wanted,
        }
    }
}

fn chooses(wanted: &[Wanted], message: Message) -> bool {
    let any = |is_template: bool| {
        let mut part = wanted
            .iter()
            .filter(|wanted| wanted.is_template() == is_template)
            .peekable();
        part.peek().is_none() || part.any(|wanted| wanted.matches(message))
    };
    !wanted.is_empty() && any(false) && any(true)
}

fn choice(wanted: &[Wanted]) -> Choice {
    let subscriptions: Vec<_> = wanted.iter().map(|wanted| wanted.subscription()).collect();
    Choice::of(subscriptions.iter())
}

fn wanted() -> impl Strategy<Value = Vec<Wanted>> {
    let one = prop_oneof![
        3 => (0..NAMES.len()).prop_map(Wanted::Topic),
        1 => Just(Wanted::Glob),
        1 => Just(Wanted::Regex),
        1 => Just(Wanted::Everything),
        1 => (0..KINDS).prop_map(Wanted::Template),
    ];
    prop::collection::vec(one, 0..5)
}

fn messages(count: usize) -> impl Strategy<Value = Vec<Message>> {
    let size = prop_oneof![
        6 => Just(SIZES[0]), 3 => Just(SIZES[1]), 2 => Just(SIZES[2]),
        1 => Just(SIZES[3]), 1 => Just(SIZES[4]), 1 => Just(SIZES[5]),
    ];
    prop::collection::vec((0_u8..1 << NAMES.len(), 0..KINDS, size), 0..count)
}

/// What a client got: numbers, and ranges that it was told of.
#[derive(Debug, Default, PartialEq)]
struct Got {
    seqs: Vec<Seq>,
    missing: Vec<(Seq, Seq)>,
}

impl Got {
    fn take(&mut self, block: Block) {
        let missing = block.missing;
        self.missing
            .extend(missing.map(|missing| (missing.first, missing.next)));
        let seqs = block.publications.iter().map(|past| past.seq());
        self.seqs.extend(seqs);
    }
}

fn run(
    replay: &mut Replay,
    log: &Log,
    budget: usize,
    mut between: impl FnMut(&mut Got) -> Seq,
) -> Got {
    let counters = Counters::default();
    let mut got = Got::default();
    for _ in 0..MOST_STEPS {
        let present = between(&mut got);
        let mut budget = Budget::new(budget);
        let block = replay.step(log, present, &mut budget, &counters);
        if block.is_live {
            assert_eq!(counters.panics.get(), 0);
            return got;
        }
        got.take(block);
    }
    panic!("the replay does not end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// While nothing changes, a replay is what stands in the list.
    #[test]
    fn a_replay_is_what_the_list_holds(
        published in messages(200),
        limit in prop_oneof![Just(0), 1_u64..2_000_000, Just(u64::MAX)],
        wanted in wanted(),
        had in wanted(),
        from in 0_u64..220,
        last in prop_oneof![Just(None), (0_usize..30).prop_map(Some)],
        budget in 1_usize..3_000,
    ) {
        let (log, cursors) = Log::new(1);
        drop(cursors);
        let mut model = Model { limit: u64::MAX, oldest: 1, ..Model::default() };
        published.iter().for_each(|message| model.append(&log, *message));
        model.keep(&log, limit);
        if limit % 2 == 0 {
            log.trim();
        }
        let (end, from) = (model.last(), from.min(model.last()));
        let kept = |seq: &Seq| *seq >= model.oldest;
        let chosen = |seq: &Seq| chooses(&wanted, published[*seq as usize - 1]);
        let (mut replay, expected) = match last {
            Some(last) => {
                let mut newest: Vec<Seq> = (1..=end).rev().filter(|seq| kept(seq) && chosen(seq)).take(last).collect();
                newest.reverse();
                let replay = Replay::new(From::Last(last), end, choice(&wanted));
                (replay, Got { seqs: newest, missing: Vec::new() })
            }
            None => {
                let has_had = |seq: &Seq| chooses(&had, published[*seq as usize - 1]);
                let seqs = (from + 1..=end).filter(|seq| kept(seq) && chosen(seq) && !has_had(seq));
                let is_missing = model.oldest > from + 1;
                let missing = is_missing.then_some((from + 1, model.oldest));
                let replay = Replay::of_subscribe(from, end, (choice(&wanted), choice(&had)), None);
                (replay, Got { seqs: seqs.collect(), missing: missing.into_iter().collect() })
            }
        };
        let got = run(&mut replay, &log, budget, |_| end);
        prop_assert_eq!(got, expected);
    }

    /// Whatever is published and forgotten meanwhile, each publication is had or told of, once and in order.
    #[test]
    fn a_replay_beside_changes_tells_of_everything_once(
        published in messages(200),
        later in messages(60),
        limits in prop::collection::vec(prop_oneof![Just(0), 1_u64..3_000_000, Just(u64::MAX)], 1..10),
        wanted in wanted(),
        from in 0_u64..220,
        last in prop_oneof![Just(None), (0_usize..30).prop_map(Some)],
        budget in 1_usize..600,
        lag in 0_u64..20,
    ) {
        let (log, cursors) = Log::new(1);
        drop(cursors);
        let mut model = Model { limit: u64::MAX, oldest: 1, ..Model::default() };
        published.iter().for_each(|message| model.append(&log, *message));
        let (start, from) = (model.last(), from.min(model.last()));
        let mut replay = match last {
            Some(last) => Replay::new(From::Last(last), start, choice(&wanted)),
            None => Replay::new(From::Since(Since { epoch: None, seq: from }), start, choice(&wanted)),
        };
        let (mut later, mut limits) = (later.into_iter(), limits.into_iter());
        let (mut told, mut present) = (0, start);
        let got = run(&mut replay, &log, budget, |got| {
            // Ranges that were told of were forgotten before, and what the shard has not taken yet comes live.
            for (first, next) in &got.missing[told..] {
                assert!(first < next && *next <= model.oldest.min(present + 1));
            }
            told = got.missing.len();
            let message = later.next();
            // While messages come, the shard is behind.
            let lag = if message.is_some() { lag } else { 0 };
            if let Some(message) = message {
                model.append(&log, message);
            }
            if let Some(limit) = limits.next() {
                model.keep(&log, limit);
                log.trim();
            }
            present = present.max(model.last().saturating_sub(lag));
            present
        });
        prop_assert!(got.seqs.is_sorted_by(|left, right| left < right));
        prop_assert!(got.missing.is_sorted_by(|left, right| left.1 <= right.0));
        let is_told = |seq: Seq| got.missing.iter().any(|(first, next)| (*first..*next).contains(&seq));
        // Of the newest, those count that came after the client.
        let asked_from = if last.is_some() { start } else { from };
        for seq in 1..=present {
            let (has, is_told) = (got.seqs.contains(&seq), is_told(seq));
            let is_chosen = chooses(&wanted, model.messages[seq as usize - 1]);
            prop_assert!(!(has && is_told), "{} twice", seq);
            prop_assert!(!has || is_chosen, "{} unasked", seq);
            if seq > asked_from {
                prop_assert!(has || is_told || !is_chosen, "{} lost", seq);
            } else if last.is_none() {
                prop_assert!(!has && !is_told, "{} is older", seq);
            }
        }
        if let Some(last) = last {
            prop_assert!(got.seqs.iter().filter(|seq| **seq <= start).count() <= last);
        }
    }
}

/// The worst that a client can ask for beside the worst that can be published: a step still ends in time.
#[test]
fn a_step_does_no_more_work_than_its_budget_and_one_evaluation() {
    const MANY: usize = 20;
    let topics = (0..MANY).map(|number| format!("{number:0>240}")).collect();
    let subscriptions: Vec<_> = (0..100)
        .map(|number| Subscription::parse(&format!("*y{number}*")).unwrap())
        .chain((0..8).map(|number| {
            let text = format!("[01]+.*[01]x{number}");
            Subscription::Pattern(Pattern::regex(&text).unwrap())
        }))
        .collect();
    let topics: Vec<String> = topics;
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let (log, cursors) = Log::new(1);
    drop(cursors);
    for _ in 0..2 {
        log.append(
            crate::log::publication::tests::draft(&topics, "x"),
            u64::MAX,
        )
        .unwrap();
    }
    let counters = Counters::default();
    for from in [
        From::Last(3),
        From::Since(Since {
            epoch: None,
            seq: 0,
        }),
    ] {
        let mut replay = Replay::new(from, 2, Choice::of(subscriptions.iter()));
        let (mut steps, mut spent) = (0, 0);
        loop {
            let mut budget = Budget::new(1000);
            let block = replay.step(&log, 2, &mut budget, &counters);
            assert!(block.publications.is_empty());
            if block.is_live {
                break;
            }
            // An expression over a topic of 240 bytes, or the topics of a publication.
            assert!(
                budget.spent <= 1000 + 240 / 16 + MANY + 4,
                "{}",
                budget.spent
            );
            (steps, spent) = (steps + 1, spent + budget.spent);
        }
        // Each pair is evaluated once in each direction, however often it is interrupted.
        let pairs = 2 * MANY * (100 + 8 * (1 + 240 / 16));
        assert!(steps > 8 && spent >= pairs);
        assert!(spent < 2 * (pairs + steps * (MANY + 10)), "{spent}");
    }
}

/// The history shrinks between two evaluations of one publication.
#[test]
fn a_match_that_is_interrupted_begins_anew_with_another_publication() {
    let (log, cursors) = Log::new(1);
    drop(cursors);
    let draft = |topic: &str| crate::log::publication::tests::draft(&[topic], "x");
    let kept = draft("a1").footprint() as u64;
    log.append(draft("q1"), u64::MAX).unwrap();
    log.append(draft("a1"), u64::MAX).unwrap();
    let patterns = ["a*", "b*"].map(|glob| Subscription::parse(glob).unwrap());
    let from = From::Since(Since {
        epoch: None,
        seq: 0,
    });
    let mut replay = Replay::new(from, 2, Choice::of(patterns.iter()));
    let block = replay.step(&log, 2, &mut Budget::new(1), &Counters::default());
    assert!(block.publications.is_empty() && replay.position() == 0);
    log.keep(kept);
    let got = run(&mut replay, &log, 1, |_| 2);
    assert_eq!((got.seqs, got.missing), (vec![2], vec![(1, 2)]));
}

/// It comes from a shard that is ahead of this one.
#[test]
fn a_cursor_ahead_of_the_shard_is_live_when_the_shard_is_there() {
    let (log, cursors) = Log::new(1);
    drop(cursors);
    let from = From::Since(Since {
        epoch: None,
        seq: 5,
    });
    let mut replay = Replay::new(from, 3, Choice::of([Subscription::Everything].iter()));
    for present in 3..=5 {
        let block = replay.step(&log, present, &mut Budget::new(9), &Counters::default());
        assert_eq!((block.is_live, block.is_ahead), (present == 5, present < 5));
        assert_eq!(replay.position(), 5);
    }
}

#[test]
fn a_publication_that_failed_to_match_is_told_of_where_it_stood() {
    let (log, cursors) = Log::new(1);
    drop(cursors);
    for _ in 0..5 {
        log.append(crate::log::publication::tests::draft(&["a"], "x"), u64::MAX)
            .unwrap();
    }
    for seq in [2, 4, 5] {
        log.read(seq, 1).publications[0].poison();
    }
    let counters = Counters::default();
    let all = || Choice::of([Subscription::Everything].iter());
    let mut replay = Replay::new(
        From::Since(Since {
            epoch: None,
            seq: 0,
        }),
        5,
        all(),
    );
    let mut frames = Vec::new();
    loop {
        let block = replay.step(&log, 5, &mut Budget::new(1000), &counters);
        if block.is_live {
            break;
        }
        if let Some(missing) = block.missing {
            assert_eq!(missing.reason, GapReason::RequestError);
            frames.push((missing.first, "gap"));
        }
        frames.extend(
            block
                .publications
                .iter()
                .map(|past| (past.seq(), "message")),
        );
    }
    assert_eq!(
        frames,
        [
            (1, "message"),
            (2, "gap"),
            (3, "message"),
            (4, "gap"),
            (5, "gap")
        ]
    );
    assert_eq!(counters.replays_skipped.get(), 3);
    // Nobody asked for those numbers.
    let mut replay = Replay::new(From::Last(9), 5, all());
    let got = run(&mut replay, &log, 1000, |_| 5);
    assert_eq!((got.seqs, got.missing), (vec![1, 3], vec![]));
}
