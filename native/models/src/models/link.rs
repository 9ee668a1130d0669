//! What a connection's task and its shard tell each other. The task's loop and the shard's are cut down to what they do
//! with the link; the socket is a count of frames that it takes.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use loom::future::block_on;
use loom::thread;

use super::link::Link;
use crate::shard::command::Command;
use crate::shard::mailbox::{Mailbox, Rest};
use crate::shard::peer::Peer;
use crate::sync::TcpStream;
use crate::sync::atomic::AtomicUsize;
use crate::wire::close::Disconnect;

pub(crate) const ALL: &[(&str, fn())] = &[
    ("who waits for control room gets it, and all of it is given back", control_room),
    ("who waits for control room hears of the end", end_of_control_room),
    ("a blocked socket that takes bytes again is written to", outbound),
    ("a reason to close is heard", close),
    ("no other word hides a block", block),
    ("bytes for one connection are counted back to nothing", direct),
    ("a refused frame takes no room from another", refused),
];

/// As much as the control room of the model.
const FRAME: &[u8] = &[0; 64];

fn link() -> (Arc<Link>, Arc<Mailbox>, TcpStream) {
    let (mailbox, stream) = (Arc::new(Mailbox::default()), TcpStream::default());
    let link = Link::new(
        1,
        stream.clone(),
        Peer,
        mailbox.clone(),
        Arc::new(AtomicUsize::new(0)),
    );
    (link, mailbox, stream)
}

/// A shard's thread: carries out commands until that says that it is enough.
fn run(mailbox: &Mailbox, mut carry_out: impl FnMut(Command) -> bool) {
    mailbox.attach();
    let mut commands = Vec::new();
    loop {
        mailbox.take(&mut commands);
        let mut is_done = false;
        for command in commands.drain(..) {
            is_done |= carry_out(command);
        }
        if is_done {
            return;
        }
        mailbox.sleep_unless(Rest::Light, || false);
    }
}

fn control_room() {
    let (link, mailbox, _) = link();
    let task = {
        let link = link.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                block_on(std::future::poll_fn(|context| link.poll_send_control(context, FRAME))).unwrap();
            }
            block_on(std::future::poll_fn(|context| link.poll_request_room(context))).unwrap();
        })
    };
    let mut frames = 0;
    run(&mailbox, |command| {
        if let Command::Control { bytes, .. } = command {
            link.control_sent(bytes.len());
            frames += 1;
        }
        frames == 2
    });
    task.join().unwrap();
    // All but one byte of the room, and then no more.
    link.control_made(63);
    assert!(link.has_control_room());
    link.control_made(1);
    assert!(!link.has_control_room());
}

fn end_of_control_room() {
    let (link, _, _) = link();
    link.control_made(64);
    let shard = {
        let link = link.clone();
        thread::spawn(move || link.end())
    };
    block_on(std::future::poll_fn(|context| link.poll_request_room(context))).unwrap_err();
    block_on(link.changed());
    assert!(link.has_ended());
    shard.join().unwrap();
}

fn outbound() {
    const FRAMES: usize = 2;
    let (link, mailbox, stream) = link();
    {
        let (link, stream) = (link.clone(), stream.clone());
        thread::spawn(move || block_on(task(&link, &stream)));
    }
    {
        let stream = stream.clone();
        thread::spawn(move || (0..FRAMES).for_each(|_| stream.read()));
    }
    let mut waiting = FRAMES;
    let mut flush = || {
        while waiting > 0 {
            if !stream.try_write() {
                link.block();
                return false;
            }
            waiting -= 1;
        }
        link.end();
        true
    };
    if !flush() {
        run(&mailbox, |command| matches!(command, Command::Writable { .. }) && flush());
    }
    assert_eq!(stream.taken(), FRAMES);
}

/// A connection's task, without what it reads from its client.
async fn task(link: &Link, stream: &TcpStream) {
    let mut is_blocked = false;
    loop {
        let mut changed = pin!(link.changed());
        let has_changed = std::future::poll_fn(|context| {
            if changed.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            if !is_blocked {
                return Poll::Pending;
            }
            ready!(stream.poll_writable(context));
            Poll::Ready(false)
        })
        .await;
        if has_changed {
            is_blocked |= link.take_blocked();
            if link.has_ended() {
                return;
            }
        } else {
            is_blocked = false;
            link.tell(Command::Writable { connection: link.id });
        }
    }
}

fn close() {
    let (link, _, _) = link();
    let shard = {
        let link = link.clone();
        thread::spawn(move || {
            link.block();
            link.close(Disconnect::Slow);
        })
    };
    block_on(async {
        let mut is_blocked = false;
        while link.close_reason().is_none() {
            link.changed().await;
            is_blocked |= link.take_blocked();
        }
        assert!(is_blocked || link.take_blocked());
    });
    shard.join().unwrap();
}

fn block() {
    let (link, _, _) = link();
    let shard = {
        let link = link.clone();
        thread::spawn(move || {
            link.close(Disconnect::Slow);
            link.block();
        })
    };
    block_on(async {
        while !link.take_blocked() {
            link.changed().await;
        }
    });
    shard.join().unwrap();
}

fn direct() {
    let (link, mailbox, _) = link();
    let senders = [1_u8, 2].map(|_| {
        let link = link.clone();
        thread::spawn(move || {
            let is_taken = link.direct_made(FRAME.len(), 0);
            link.tell(if is_taken {
                let frame = Bytes::from_static(FRAME);
                Command::Direct { connection: link.id, after: 0, frame }
            } else {
                Command::Writable { connection: link.id }
            });
            is_taken
        })
    });
    let mut told = 0;
    run(&mailbox, |command| {
        if let Command::Direct { frame, .. } = command {
            link.direct_sent(frame.len());
        }
        told += 1;
        told == 2
    });
    let taken = senders.map(|sender| sender.join().unwrap());
    assert!(taken.contains(&true), "there was room for one");
    assert!(link.direct_made(1, 0), "nothing waits");
}

fn refused() {
    let (link, _, _) = link();
    assert!(link.direct_made(10, 0), "nothing waits");
    let sender = {
        let link = link.clone();
        thread::spawn(move || link.direct_made(100, 5))
    };
    assert!(link.direct_made(1, 50), "only 10 wait");
    assert!(!sender.join().unwrap(), "10 or more wait");
}
