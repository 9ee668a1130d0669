use super::*;
use crate::shard::tests::Bench;
use crate::wire::close::Disconnect;
use crate::wire::format::Format;

const ID: &str = "1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";

struct Reader;

impl InterestWatcher for Reader {
    fn changed(&self) -> bool {
        true
    }
}

fn at(slot: u64) -> Position {
    Position { slot, part: 0 }
}

/// Begins a replay of a new connection.
async fn begin(bench: &mut Bench, max: u64) -> Result<(SlotPermit, Arc<SlotReplay>), NoReplay> {
    let permit = bench.context.replays.admit(max)?;
    let (_, handle) = bench.connect(Format::Json, None, &[]).await;
    let start = SlotStart::new(ID, 5).unwrap();
    let replay = permit.begin(handle, Choice::default(), &start);
    Ok((permit, replay))
}

#[tokio::test]
async fn a_replay_takes_one_step_of_its_reader_at_a_time() {
    let mut bench = Bench::new().await;
    let replays = bench.context.replays.clone();
    assert_eq!(begin(&mut bench, 9).await.err(), Some(NoReplay::NoReader));
    replays.watch(Reader);
    let (permit, replay) = begin(&mut bench, 9).await.unwrap();
    // The reader has not taken it.
    assert_eq!(replay.step(at(5), at(5), SlotStep::Live), Err(at(5)));
    let due = DueReplay {
        id: replay.id,
        process: replay.process,
        next: at(5),
    };
    assert_eq!(replays.take_due(9), (vec![due], vec![]));
    assert_eq!(replays.take_due(9), (vec![], vec![]));
    assert_eq!(replay.step(at(4), at(5), SlotStep::Live), Err(at(5)));
    assert_eq!(replay.step(at(5), at(6), SlotStep::Live), Ok(()));
    // The client has to take the step first.
    assert_eq!(replay.step(at(6), at(7), SlotStep::Live), Err(at(6)));
    replays.set_due(&replay);
    replays.set_due(&replay);
    assert_eq!(replays.take_due(9).0.len(), 1);
    // The next reader gets what this one has begun, and this one's step counts no more.
    replays.watch(Reader);
    assert_eq!(replay.step(at(6), at(7), SlotStep::Live), Err(at(6)));
    assert_eq!(replays.take_due(9).0[0].next, at(6));
    drop(permit);
    assert_eq!(replays.take_due(9), (vec![], vec![replay.id]));
    assert!(replays.find(replay.id).is_none());
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_place_to_another_one() {
    let mut bench = Bench::new().await;
    let replays = bench.context.replays.clone();
    replays.watch(Reader);
    let (waiting, slow) = (
        begin(&mut bench, 2).await.unwrap(),
        begin(&mut bench, 2).await.unwrap(),
    );
    assert_eq!(replays.take_due(9).0.len(), 2);
    slow.1.step(at(5), at(6), SlotStep::Live).unwrap();
    assert_eq!(begin(&mut bench, 2).await.err(), Some(NoReplay::Full));
    let now = Instant::now();
    assert!(!replays.replays.lock().evict(now + PATIENCE / 2));
    assert!(replays.replays.lock().evict(now + PATIENCE));
    assert_eq!(slow.1.connection.close_reason(), Some(Disconnect::Slow));
    assert_eq!(waiting.1.connection.close_reason(), None);
    // Its place is free, once.
    assert_eq!(replays.len(), 1);
    assert!(!replays.replays.lock().evict(now + PATIENCE));
    let third = begin(&mut bench, 2).await.unwrap();
    drop(slow);
    assert_eq!(replays.len(), 2);
    drop((waiting, third));
    assert_eq!(replays.len(), 0);
}

#[tokio::test]
async fn replays_that_end_before_they_are_read_leave_nothing_behind() {
    let mut bench = Bench::new().await;
    let replays = bench.context.replays.clone();
    replays.watch(Reader);
    for _ in 0..1000 {
        drop(begin(&mut bench, 1).await.unwrap());
    }
    let left = replays.replays.lock();
    assert!(left.due.len() <= 64 && left.ended.is_empty() && left.active.is_empty());
}
