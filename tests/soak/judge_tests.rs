//! The judge finds violations, and allows the differences that the faults explain.

use super::history::{Effects, Entry, Event, Loss, PROBE, Place, Seen, Sent, Told, Value};
use super::judge::{Judge, Kind, Round};
use std::time::{Duration, Instant};

const END: Value = Value { way: PROBE, number: 1 };

fn place(ms: u64) -> Place {
    Place { ms, seq: 0 }
}

/// `X-n` at `n-0`; the probe is at 100.
fn entry(n: u64) -> Entry {
    let value = if n == 100 { END } else { Value { way: 'X', number: n as u32 } };
    (place(n), value)
}

fn reads(list: &[u64]) -> Vec<Seen> {
    list.iter().map(|n| Seen::Message(entry(*n))).collect()
}

fn gap(from: u64, to: Option<u64>) -> Vec<Seen> {
    vec![Seen::Gap(place(from), to.map(place))]
}

/// A message that was published this many milliseconds after the start, and its outcome.
fn sent(value: Value, at: u64, told: Told) -> Sent {
    let moment = moment(at);
    Sent { value, began: moment, tried: moment, ended: moment, told, words: String::new() }
}

fn moment(ms: u64) -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_millis(ms)
}

fn judged(seen: Vec<Seen>, log: &[Entry], sent: Vec<Sent>, effects: &Effects) -> Vec<Kind> {
    judged_over(&[seen], log, sent, effects)
}

/// Judges a reader that changes its node between these parts.
fn judged_over(parts: &[Vec<Seen>], log: &[Entry], sent: Vec<Sent>, effects: &Effects) -> Vec<Kind> {
    let round = Round { effects, sent, log, probe: END, trims: false, probed: moment(60_000) };
    judged_round(parts, round)
}

fn judged_round(parts: &[Vec<Seen>], round: Round<'_>) -> Vec<Kind> {
    let mut judge = Judge::of(vec!["a reader".to_owned()]);
    for (node, seen) in parts.iter().enumerate() {
        for seen in seen.iter().cloned() {
            judge.tracks[0].take(&Event { at: moment(0), by: format!("sse at {node}"), seen, text: String::new() });
        }
    }
    judge.judge(round).into_iter().map(|violation| violation.kind).collect()
}

fn log_of(list: &[u64]) -> Vec<Entry> {
    list.iter().map(|n| entry(*n)).collect()
}

fn told(n: u64) -> Sent {
    sent(entry(n).1, n, Told::Good(Some(place(n))))
}

/// The effects of a log that is another one since this moment.
fn replaced(at: u64) -> Effects {
    Effects { losses: vec![(moment(at), Loss::Replaced, false)], ..Effects::default() }
}

fn deleted(list: &[u64]) -> Effects {
    Effects { deleted: log_of(list), ..Effects::default() }
}

/// A log that keeps little has dropped the probe before the slowest reader came to it.
#[test]
fn a_probe_that_retention_has_dropped() {
    let effects = Effects::default();
    let log = log_of(&[150, 151]);
    let cases: Vec<(&str, bool, Vec<Seen>, &[Kind])> = vec![
        ("a gap in its place", true, [reads(&[1, 2]), gap(2, Some(149)), reads(&[150])].concat(), &[]),
        ("nothing in its place", true, reads(&[1, 2, 150]), &[Kind::Unannounced]),
        ("the log keeps everything", false, [reads(&[1, 2]), gap(2, Some(149)), reads(&[150])].concat(), &[Kind::Lost]),
    ];
    for (case, trims, seen, kinds) in cases {
        let (sent, log) = (vec![told(2), told(50), told(100)], log.as_slice());
        let round = Round { effects: &effects, sent, log, probe: END, trims, probed: moment(60_000) };
        assert_eq!(judged_round(&[seen], round), kinds, "{case}");
    }
}

#[test]
fn what_readers_see_against_the_log() {
    let quiet = Effects::default();
    let log = log_of(&[1, 2, 3, 100]);
    let cases: Vec<(&str, Vec<Seen>, &[Kind])> = vec![
        ("all of it", reads(&[1, 2, 3, 100]), &[]),
        ("one missing", reads(&[1, 3, 100]), &[Kind::Lost]),
        ("one missing in a gap", [reads(&[1]), gap(1, Some(2)), reads(&[3, 100])].concat(), &[]),
        ("one missing in the gap of a batch", [reads(&[1]), gap(1, None), reads(&[3, 100])].concat(), &[]),
        ("one missing behind a gap", [gap(0, Some(1)), reads(&[3, 100])].concat(), &[Kind::Lost]),
        ("one twice", reads(&[1, 2, 2, 3, 100]), &[Kind::Doubled]),
        (
            "one twice, behind a gap that goes back",
            [reads(&[1, 2]), gap(2, Some(1)), reads(&[2, 3, 100])].concat(),
            &[],
        ),
        ("out of order", reads(&[1, 3, 2, 100]), &[Kind::Disorder]),
        (
            "a cursor that goes back",
            [reads(&[1, 2]), vec![Seen::Cursor(place(1))], reads(&[3, 100])].concat(),
            &[Kind::Disorder],
        ),
        (
            "something that nobody has published",
            [reads(&[1, 2, 3]), vec![Seen::Stranger], reads(&[100])].concat(),
            &[Kind::Ghost],
        ),
        ("something that the log never had", reads(&[1, 2, 3, 50, 100]), &[Kind::Lost]),
    ];
    for (name, seen, expected) in cases {
        assert_eq!(judged(seen, &log, vec![], &quiet), expected, "{name}");
    }
}

#[test]
fn what_publishers_were_told_against_the_log() {
    let (log, all) = (log_of(&[1, 100]), reads(&[1, 100]));
    let ghost = sent(entry(1).1, 1, Told::Never);
    let elsewhere = sent(entry(1).1, 1, Told::Good(Some(place(9))));
    let cases: Vec<(&str, Sent, Effects, &[Kind])> = vec![
        ("it is there", told(1), Effects::default(), &[]),
        ("no answer, and it is there", sent(entry(1).1, 1, Told::Unknown), Effects::default(), &[]),
        ("no answer, and it is not there", sent(entry(2).1, 2, Told::Unknown), Effects::default(), &[]),
        ("it is not there", told(2), Effects::default(), &[Kind::Lost, Kind::Lost]),
        ("the log was lost after that", told(20), replaced(30), &[]),
        ("the log was lost before that", told(40), replaced(30), &[Kind::Lost]),
        ("refused, and it is there", ghost, Effects::default(), &[Kind::Ghost]),
        ("it has another id", elsewhere, Effects::default(), &[Kind::Lost, Kind::Disorder]),
    ];
    for (name, sent, effects, expected) in cases {
        assert_eq!(judged(all.clone(), &log, vec![sent], &effects), expected, "{name}");
    }
    let twice = [log_of(&[1]), vec![(place(2), entry(1).1)], log_of(&[100])].concat();
    let seen = twice.iter().map(|entry| Seen::Message(*entry)).collect();
    assert_eq!(judged(seen, &twice, vec![], &Effects::default()), [Kind::Doubled], "one message twice in the log");
}

#[test]
fn a_lost_end_is_told() {
    // 2 and 3 are lost; 5 was written where they were not.
    let log = log_of(&[1, 5, 100]);
    let cases: Vec<(&str, Vec<Seen>, &[Kind])> = vec![
        ("it had not read so far", reads(&[1, 5, 100]), &[]),
        ("it had, and was told", [reads(&[1, 2, 3]), gap(3, Some(1)), reads(&[5, 100])].concat(), &[]),
        ("it had, and was not told", reads(&[1, 2, 3, 5, 100]), &[Kind::Unannounced]),
        ("it was told, and not given all", [reads(&[1, 2, 3]), gap(3, Some(6)), reads(&[100])].concat(), &[]),
        (
            "a gap that leaves out what it did not cover",
            [reads(&[1, 2]), gap(2, Some(1)), reads(&[100])].concat(),
            &[Kind::Lost],
        ),
    ];
    for (name, seen, expected) in cases {
        assert_eq!(judged(seen, &log, vec![told(2), told(3)], &replaced(30)), expected, "{name}");
    }
}

#[test]
fn a_lost_end_is_told_late_only_to_a_reader_that_changes_its_node() {
    let log = log_of(&[1, 5, 6, 100]);
    let all = reads(&[5, 6, 100]);
    type Case<'a> = (&'a str, [Vec<Seen>; 2], &'a [Kind]);
    let cases: Vec<Case<'_>> = vec![
        ("it changes there", [reads(&[1, 2, 3]), [reads(&[5]), gap(5, Some(1)), all.clone()].concat()], &[]),
        ("it stays", [reads(&[1]), [reads(&[2, 3, 5]), gap(5, Some(1)), all.clone()].concat()], &[Kind::Unannounced]),
        (
            "the gap leaves out 2",
            [reads(&[1, 2, 3]), [reads(&[5]), gap(5, Some(2)), all].concat()],
            &[Kind::Unannounced],
        ),
        ("no gap comes", [reads(&[1, 2, 3]), reads(&[5, 6, 100])], &[Kind::Unannounced]),
    ];
    for (name, parts, expected) in cases {
        assert_eq!(judged_over(&parts, &log, vec![told(2), told(3)], &replaced(30)), expected, "{name}");
    }
}

/// The clock is behind the last id. 7-2 is lost and another entry has its id; what was at 7-3 is lost, too, and is
/// appended again under the same id.
#[test]
fn an_entry_that_was_lost_may_get_its_id_again() {
    let at = |seq: u64, number: u32| (Place { ms: 7, seq }, Value { way: 'X', number });
    let log = [at(1, 1), at(2, 20), at(3, 3), at(4, 4), entry(100)];
    let reads = |entries: &[Entry]| entries.iter().copied().map(Seen::Message).collect::<Vec<_>>();
    let (before, all) = (reads(&[at(1, 1), at(2, 2), at(3, 3)]), reads(&log[1..]));
    let gap = |from: Entry, until: Entry| vec![Seen::Gap(from.0, Some(until.0))];
    let cases: Vec<(&str, Vec<Seen>, &[Kind])> = vec![
        ("the gap covers it", [before.clone(), gap(at(3, 3), at(1, 1)), all.clone()].concat(), &[]),
        ("no gap comes", [before.clone(), reads(&[at(4, 4), entry(100)])].concat(), &[Kind::Unannounced]),
        (
            "another entry comes before the gap",
            [before, reads(&[at(4, 40)]), reads(&[at(5, 5)]), gap(at(5, 5), at(1, 1)), all].concat(),
            &[Kind::Unannounced],
        ),
    ];
    for (name, seen, expected) in cases {
        let mut log = log.to_vec();
        if name.starts_with("another") {
            log.insert(4, at(5, 5));
        }
        let lost = sent(Value { way: 'X', number: 2 }, 2, Told::Good(Some(Place { ms: 7, seq: 2 })));
        let found = judged(seen, &log, vec![lost], &replaced(30));
        assert!(expected.iter().all(|kind| found.contains(kind)), "{name}: {found:?}");
        assert_eq!(found.contains(&Kind::Unannounced), !expected.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn what_is_deleted_unseen_is_told() {
    let log = log_of(&[1, 3, 100]);
    let cases: Vec<(&str, Vec<Seen>, &[Kind])> = vec![
        ("it had seen it", reads(&[1, 2, 3, 100]), &[]),
        ("it was told", [reads(&[1]), gap(1, Some(2)), reads(&[3, 100])].concat(), &[]),
        ("it was told later", [reads(&[1, 3]), gap(1, Some(3)), reads(&[100])].concat(), &[]),
        ("it was not told", reads(&[1, 3, 100]), &[Kind::Unannounced]),
    ];
    for (name, seen, expected) in cases {
        assert_eq!(judged(seen, &log, vec![told(2)], &deleted(&[2])), expected, "{name}");
    }
}

#[test]
fn publishes_that_redis_counted_as_heard_when_it_died() {
    let heard = |n: u32, at: u64| sent(Value { way: 'P', number: n }, at, Told::Good(None));
    let (log, all) = (log_of(&[1, 100]), reads(&[1, 100]));
    let five: Vec<Sent> = (0..5).map(|n| heard(n, 10_000 + 20 * u64::from(n))).collect();
    let cut = Effects { cuts: vec![moment(10_050)], ..Effects::default() };
    let deaf = Effects { deaf: vec![(moment(9000), moment(11_000))], ..Effects::default() };
    let cases: Vec<(&str, Vec<Sent>, Effects, &[Kind])> = vec![
        ("three at a cut", five[..3].to_vec(), cut.clone(), &[]),
        ("five at a cut", five.clone(), cut, &[Kind::Lost]),
        ("five while nobody could hear", five.clone(), deaf, &[]),
        ("without a reason", five[..1].to_vec(), Effects::default(), &[Kind::Lost]),
        ("too young to be looked for", vec![heard(9, 59_000)], Effects::default(), &[]),
    ];
    for (name, sent, effects, expected) in cases {
        assert_eq!(judged(all.clone(), &log, sent, &effects), expected, "{name}");
    }
}

/// A key is used again after Redis has forgotten it, between the two uses or while one of them is under way.
#[test]
fn a_message_may_be_twice_if_its_key_was_forgotten_in_between() {
    let value = Value { way: 'K', number: 1 };
    let log = [(place(1), value), (place(50), value), entry(100)];
    let seen: Vec<Seen> = log.iter().map(|entry| Seen::Message(*entry)).collect();
    for (forgot, wanted) in [(None, vec![Kind::Doubled]), (Some(20), vec![]), (Some(0), vec![Kind::Doubled])] {
        let effects = Effects { forgot_keys: forgot.map(moment).into_iter().collect(), ..Effects::default() };
        let uses = vec![sent(value, 1, Told::Good(Some(place(1)))), sent(value, 50, Told::Good(Some(place(50))))];
        assert_eq!(judged(seen.clone(), &log, uses, &effects), wanted, "forgotten at {forgot:?}");
    }
}
