//! Shrinks a long sequence of operations that differs to a short one.

use crate::plan::{Keep, MEMORY, Plan};
use crate::{EPISODE, PREFIX, draw, model::Model, op::Op, play, play::World};
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use core::fmt::Write;

/// A machine that ran the program `storm`.
#[derive(Clone, Debug)]
pub struct Run {
    /// The output on the console.
    pub console: String,
    /// How it failed, in words; `None` if it ended well.
    pub failure: Option<String>,
}

/// Boots a machine with the program `storm` and the words of the plan as its arguments.
pub type Boot<'a> = dyn FnMut(&Plan) -> Result<Run, String> + 'a;

/// The model's output, and the first difference of the machine's.
struct Comparison {
    expected: Vec<String>,
    /// The index of the first line that differs, and the machine's line.
    difference: Option<(usize, String)>,
}

/// How many machines are booted to shrink a sequence.
const BOOTS: usize = 250;

/// Plays a plan, and compares with the model. Returns how many calls were made.
///
/// # Errors
/// The two differ: a short sequence that shows it, in words. Or the machine could not be booted.
pub fn check(plan: &Plan, boot: &mut Boot) -> Result<u64, String> {
    let Comparison { expected, difference } = compare(plan, &boot(plan)?)?;
    let Some((line, actual)) = difference else {
        let last = expected.last().map_or("", String::as_str);
        return Ok(last.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0));
    };
    // In this mode there is one line for each episode.
    let episode = plan.first + (line as u32).min(plan.episodes - 1);
    let alone = Plan { first: episode, episodes: 1, verbose: true, ..*plan };
    let played = compare(&alone, &boot(&alone)?)?;
    if played.difference.is_none() {
        let expected = &expected[line.min(expected.len() - 1)];
        return Err(format!(
            "episode {episode} differs, but not when it is played alone\n  expected: {expected}\n  \
             actual:   {actual}\n  to repeat: {}",
            command(plan)
        ));
    }
    let (plan, played) = shrink(alone, played, boot)?;
    Err(report(&plan, &played))
}

fn compare(plan: &Plan, run: &Run) -> Result<Comparison, String> {
    let mut lines = run.console.lines().filter_map(|line| line.trim_end().strip_prefix(PREFIX));
    let model = Model::from_description(&mut lines);
    let mut model = model.map_err(|why| format!("{why}; {}", tail(run)))?;
    let calls = play(&mut model, plan);
    model.print(format_args!("end after {calls} calls"));
    let expected = model.into_lines();
    for (line, expected_line) in expected.iter().enumerate() {
        let actual = lines.next();
        if actual != Some(expected_line) {
            let actual = actual.map_or_else(|| tail(run), ToString::to_string);
            return Ok(Comparison { difference: Some((line, actual)), expected });
        }
    }
    let difference = run.failure.as_ref().map(|_| (expected.len() - 1, tail(run)));
    Ok(Comparison { expected, difference })
}

/// The last lines of a run that stopped too early.
fn tail(run: &Run) -> String {
    let lines: Vec<&str> = run.console.lines().filter(|line| !line.starts_with(PREFIX)).collect();
    let last = lines[lines.len().saturating_sub(16)..].join("\n    ");
    format!("nothing: {}\n    {last}", run.failure.as_deref().unwrap_or("it ended"))
}

/// The operations up to the one that differs.
fn cut(plan: &Plan, played: &Comparison) -> Vec<u32> {
    let line = played.difference.as_ref().map_or(0, |(line, _)| *line);
    let is_op = |line: &&String| line.starts_with(|c: char| c.is_ascii_digit());
    let ops = played.expected[..=line].iter().filter(is_op).count();
    plan.keep.indices().take(ops).collect()
}

/// Leaves out operations as long as the difference remains: halves first, then smaller pieces.
fn shrink(plan: Plan, played: Comparison, boot: &mut Boot) -> Result<(Plan, Comparison), String> {
    let mut best = (plan, played);
    let mut ops = cut(&best.0, &best.1);
    let mut piece = ops.len().div_ceil(2);
    let mut boots = 0;
    while piece > 0 && boots < BOOTS {
        let mut from = 0;
        while from < ops.len() && piece < ops.len() && boots < BOOTS {
            let mut keep = Keep([0; EPISODE as usize / 8]);
            let rest = ops[..from].iter().chain(ops.iter().skip(from + piece));
            rest.for_each(|&index| keep.set(index, true));
            let shorter = Plan { keep, ..plan };
            let played = compare(&shorter, &boot(&shorter)?)?;
            boots += 1;
            if played.difference.is_some() {
                ops = cut(&shorter, &played);
                best = (shorter, played);
            } else {
                from += piece;
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    Ok(best)
}

fn report(plan: &Plan, played: &Comparison) -> String {
    let mut text = String::from("the kernel and the model differ\n");
    let (line, actual) = played.difference.clone().unwrap_or_default();
    let ops = cut(plan, played);
    let mut keep = Keep([0; EPISODE as usize / 8]);
    for &index in &ops {
        keep.set(index, true);
        let op: Op = draw::op(plan.seed, plan.first, index);
        let mut after = played.expected.iter().skip_while(|line| **line != format!("{index} {op}"));
        let result = after.nth(1).map_or("", String::as_str);
        let _ = writeln!(text, "  {op}{result}");
    }
    let expected = played.expected[line].trim();
    let plan = Plan { keep, ..*plan };
    let _ = write!(text, "  expected: {expected}\n  actual:   {}\n  to repeat: {}", actual.trim(), command(&plan));
    text
}

/// The command that repeats a plan, and shows every operation with the visible state after it.
fn command(plan: &Plan) -> String {
    format!("cargo xtask run --check --memory {MEMORY} --tick 0 --no-trace storm {plan}")
}
