//! Lists the core's files for the models, and generates copies with one error each. A model that accepts a broken copy
//! proves nothing. The original files are compiled in place with `cfg(loom)`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a build that cannot go on ends"
)]

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// A text of the core and its replacement.
type Change = (&'static str, &'static str);

struct Part {
    name: &'static str,
    file: &'static str,
    /// A module of the core that is compiled against each copy.
    beside: Option<(&'static str, &'static str)>,
    broken: &'static [(&'static str, &'static [Change])],
}

const PARTS: [Part; 5] = [
    Part {
        name: "log",
        file: "log/publication_log.rs",
        beside: None,
        broken: &[
            (
                "the number is told of before the publication is there",
                &[
                    (
                        "head.next_seq += 1;",
                        "head.next_seq += 1; self.last_seq.store(seq, Ordering::Release);",
                    ),
                    ("        self.last_seq.store(seq, Ordering::Release);\n", ""),
                ],
            ),
            (
                "the number is told of without what was written before",
                &[(
                    "self.last_seq.store(seq, Ordering::Release)",
                    "self.last_seq.store(seq, Ordering::Relaxed)",
                )],
            ),
            (
                "a reader leaves a segment without a second look",
                &[(
                    "if self.segment.has(self.index) {\n                continue;",
                    "if self.segment.has(self.index) && false {\n                continue;",
                )],
            ),
            (
                "a segment counts as ended when it has a successor",
                &[(
                    " || self.segment.next.get().is_some_and(|next| next.has(0))",
                    "",
                )],
            ),
            (
                "a segment gets its successor before its last publication",
                &[
                    (
                        "let size = draft.footprint();",
                        "let size = draft.footprint(); let early = Segment::new(); if size > 128 * 1024 - 10 { let _ = head.segment.next.set(early.clone()); }",
                    ),
                    (
                        "head.seal(appended);",
                        "let _ = early; head.seal(appended);",
                    ),
                ],
            ),
            (
                "the room is looked at before the lock is held",
                &[
                    (
                        "self.append_locked(&mut self.head.lock(), draft, queue_limit)",
                        "let slowest = self.slowest(); self.append_locked(&mut self.head.lock(), slowest, draft, queue_limit)",
                    ),
                    (
                        "        head: &mut Head,\n        draft: Draft,\n        queue_limit: u64,",
                        "        head: &mut Head,\n        slowest: u64,\n        draft: Draft,\n        queue_limit: u64,",
                    ),
                    (
                        "saturating_sub(self.slowest());\n        if",
                        "saturating_sub(slowest);\n        if",
                    ),
                ],
            ),
            (
                "only one shard tells of losses",
                &[(
                    "model: self.log.settle();",
                    "if self.number == 0 { self.log.settle(); }",
                )],
            ),
        ],
    },
    Part {
        name: "mailbox",
        file: "shard/mailbox.rs",
        beside: None,
        broken: &[
            (
                "no fence between the work and the look whether the shard sleeps",
                &[(
                    "fence(Ordering::SeqCst);\n        let until = self.sleeps_until.load(Ordering::Relaxed);",
                    "let until = self.sleeps_until.load(Ordering::Relaxed);",
                )],
            ),
            (
                "no fence between the word that it sleeps and the look for work",
                &[(
                    "self.sleeps_until.store(until, Ordering::Release);\n        fence(Ordering::SeqCst);",
                    "self.sleeps_until.store(until, Ordering::Release);",
                )],
            ),
            (
                "the look for work is before the word that it sleeps",
                &[(
                    "self.sleeps_until.store(until, Ordering::Release);\n        fence(Ordering::SeqCst);\n        let is_due = is_due();",
                    "let is_due = is_due(); self.sleeps_until.store(until, Ordering::Release);\n        fence(Ordering::SeqCst);",
                )],
            ),
            (
                "the shard is woken before the command is there",
                &[(
                    "self.commands.lock().push(command);\n        self.wake(u64::MAX);",
                    "self.wake(u64::MAX); self.commands.lock().push(command);",
                )],
            ),
            (
                "who wakes the shard may not know its thread",
                &[(
                    "self.sleeps_until.swap(AWAKE, Ordering::Acquire)",
                    "self.sleeps_until.swap(AWAKE, Ordering::Relaxed)",
                )],
            ),
            (
                "a dozing shard is woken one byte late",
                &[("&& appended >= until", "&& appended > until")],
            ),
            (
                "the last look does not look for commands",
                &[("work() || !self.commands.lock().is_empty()", "work()")],
            ),
        ],
    },
    Part {
        name: "connection_state",
        file: "shard/connection_state.rs",
        beside: Some(("connection_handle", "shard/connection_handle.rs")),
        broken: &[
            (
                "who waits for room is woken before there is some",
                &[(
                    "self.control_bytes.fetch_sub(bytes, Ordering::AcqRel);\n            self.control_room.wake();",
                    "self.control_room.wake(); self.control_bytes.fetch_sub(bytes, Ordering::AcqRel);",
                )],
            ),
            (
                "who waits for room does not look again",
                &[(
                    "self.control_room.register(context.waker());\n            if !is_over() {\n                return Poll::Pending;\n            }",
                    "self.control_room.register(context.waker()); return Poll::Pending;",
                )],
            ),
            (
                "the end does not wake who waits for room",
                &[(
                    "self.changed.notify_one();\n        self.control_room.wake();",
                    "self.changed.notify_one();",
                )],
            ),
            (
                "the end wakes before it is there",
                &[(
                    "self.ended.store(true, Ordering::Release);\n        self.changed.notify_one();\n        self.control_room.wake();",
                    "self.control_room.wake(); self.changed.notify_one(); self.ended.store(true, Ordering::Release);",
                )],
            ),
            (
                "the task is told of a blocked socket before it is one",
                &[(
                    "self.blocked.store(true, Ordering::Release);\n        self.changed.notify_one();",
                    "self.changed.notify_one(); self.blocked.store(true, Ordering::Release);",
                )],
            ),
            (
                "a block between the look and the reset is lost",
                &[(
                    "self.blocked.swap(false, Ordering::AcqRel)",
                    "{ let blocked = self.blocked.load(Ordering::Acquire); self.blocked.store(false, Ordering::Release); blocked }",
                )],
            ),
            (
                "the task is told to close before there is a reason",
                &[(
                    "self.close.lock().get_or_insert(reason);\n        self.changed.notify_one();",
                    "self.changed.notify_one(); self.close.lock().get_or_insert(reason);",
                )],
            ),
            (
                "a refused frame stays counted",
                &[(
                    "        counted.is_ok()\n",
                    "        if counted.is_err() { self.direct_bytes.fetch_add(bytes, Ordering::AcqRel); }\n        counted.is_ok()\n",
                )],
            ),
            (
                "a refused frame is counted for a moment",
                &[(
                    "        counted.is_ok()\n",
                    "        if counted.is_err() { self.direct_bytes.fetch_add(bytes, Ordering::AcqRel); self.direct_bytes.fetch_sub(bytes, Ordering::AcqRel); }\n        counted.is_ok()\n",
                )],
            ),
            (
                "bytes on their way are counted in two steps",
                &[(
                    "self\n            .direct_bytes\n            .fetch_update(Ordering::AcqRel, Ordering::Acquire, count);",
                    "{ let there = self.direct_bytes.load(Ordering::Acquire); count(there).map(|sum| self.direct_bytes.store(sum, Ordering::Release)).ok_or(there) };",
                )],
            ),
        ],
    },
    Part {
        name: "inbound",
        file: "shared/inbound.rs",
        beside: None,
        broken: &[
            (
                "the end of a listener does not reach who waits for it",
                &[(
                    "self.current.compare_and_swap(&expected, None);\n        listening.room.close();",
                    "self.current.compare_and_swap(&expected, None);",
                )],
            ),
            (
                "a new listener does not reach who waits for the one before",
                &[("before.room.close();", "drop(before);")],
            ),
            (
                "room is given back that was never taken",
                &[(
                    "self.room.add_permits(taken.min(cost as usize));",
                    "let _ = taken; self.room.add_permits(cost as usize);",
                )],
            ),
            (
                "the room of a message is given back at once",
                &[(
                    "room.forget();",
                    "listening.room.add_permits(cost as usize); room.forget();",
                )],
            ),
        ],
    },
    Part {
        name: "interest",
        file: "shard/interest/signal.rs",
        beside: None,
        broken: &[
            (
                "no fence between the wish to hear and the look",
                &[("fence(Ordering::SeqCst);\n    }", "}")],
            ),
            (
                "no fence between the change and the look whether somebody waits",
                &[(
                    "fence(Ordering::SeqCst);\n        if !self.is_armed",
                    "if !self.is_armed",
                )],
            ),
            (
                "two changes at once are told twice",
                &[(
                    "!self.is_armed.swap(false, Ordering::Relaxed)",
                    "{ self.is_armed.store(false, Ordering::Relaxed); false }",
                )],
            ),
            (
                "the end of a watcher takes the next one with it",
                &[(
                    ".take_if(|present| Arc::ptr_eq(present, &watcher));",
                    ".take();",
                )],
            ),
        ],
    },
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rustc-cfg=loom");
    let models = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo says where we are"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo says where to"));
    let core_source = models.join("../dev_websocket_core/src");
    let mut modules = String::new();
    let mut table = String::new();
    for part in &PARTS {
        let file = core_source.join(part.file);
        // Copies omit the unit tests, which stand at the end of the file.
        let right = read(&file);
        let right = right
            .split("\n#[cfg(all(test, not(loom)))]")
            .next()
            .unwrap_or_default();
        let model = read(
            &models
                .join("src/models")
                .join(part.name)
                .with_extension("rs"),
        );
        let none: (&str, &[Change]) = ("", &[]);
        for (number, (what, changes)) in std::iter::once(&none).chain(part.broken).enumerate() {
            let (mut core, mut model) = (right.to_owned(), model.clone());
            for (from, to) in *changes {
                match from.strip_prefix("model: ") {
                    Some(from) => model = changed(&model, &(from, to), "the model"),
                    None => core = changed(&core, &(from, to), part.file),
                }
            }
            let name = format!("{}_{number}", part.name);
            let module = |kind: &str, text: &str| {
                let file = out.join(format!("{name}_{kind}.rs"));
                fs::write(&file, text).expect("cargo's folder can be written to");
                file.display().to_string()
            };
            let core = match *what {
                "" => file.display().to_string(),
                _ => module("core", &core),
            };
            let model = module("model", &model);
            let beside = part.beside.map_or_else(String::new, |(name, file)| {
                let file = core_source.join(file).display().to_string();
                format!("#[path = {file:?}] pub(crate) mod {name}; pub(crate) use crate::shard::{{ids, mailbox}};")
            });
            let Part { name: part, .. } = part;
            writeln!(
                modules,
                "#[allow(clippy::all, reason = \"it is linted where it comes from\")] pub(crate) mod {name} {{
                    #[allow(unused_imports)] pub(crate) use crate::shard::{{command, peer}};
                    {beside}
                    #[path = {core:?}] pub(crate) mod {part};
                    #[path = {model:?}] pub(crate) mod models;
                }}"
            )
            .expect("text can be written to");
            writeln!(
                table,
                "({part:?}, {what:?}, variants::{name}::models::ALL),"
            )
            .expect("likewise");
        }
    }
    let text = format!(
        "pub(crate) mod variants {{ {modules} }}\npub(crate) const VARIANTS: &[Variant] = &[{table}];"
    );
    fs::write(out.join("variants.rs"), text).expect("cargo's folder can be written to");
}

fn read(file: &Path) -> String {
    println!("cargo::rerun-if-changed={}", file.display());
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn changed(text: &str, (from, to): &Change, file: &str) -> String {
    assert_eq!(
        text.matches(from).count(),
        1,
        "{file} does not have once: {from}"
    );
    text.replacen(from, to, 1)
}
