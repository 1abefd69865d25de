//! Every state that a model can reach, breadth first: none is wrong, and from each the model can still settle.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// More states than this are more than a test should wait for.
const MOST: usize = 4_000_000;

/// A model.
pub(super) trait Space: Clone + Eq + Hash + Debug {
    /// The states that may follow.
    fn next(&self) -> Vec<Self>;
    /// What must never be.
    fn wrong(&self) -> Option<&'static str>;
    /// Where it may come to rest.
    fn is_settled(&self) -> bool;
}

/// How many states there are; or the way to one that is wrong, or to one from which nothing settled can be reached any more.
pub(super) fn explore<S: Space>(first: S) -> Result<usize, String> {
    let mut states = vec![first.clone()];
    let mut from: Vec<usize> = vec![0];
    let mut known: HashMap<S, usize> = HashMap::from([(first, 0)]);
    let mut leads_here: Vec<Vec<u32>> = vec![Vec::new()];
    let mut at = 0;
    while at < states.len() {
        if let Some(what) = states[at].wrong() {
            return Err(format!("{what}:\n{}", way(&states, &from, at)));
        }
        for next in states[at].next() {
            let place = *known.entry(next).or_insert_with_key(|next| {
                states.push(next.clone());
                from.push(at);
                leads_here.push(Vec::new());
                states.len() - 1
            });
            leads_here[place].push(u32::try_from(at).expect("few states"));
        }
        at += 1;
        assert!(states.len() < MOST, "too many states");
    }
    match stuck(&states, &leads_here) {
        Some(at) => Err(format!("nothing settled can be reached any more:\n{}", way(&states, &from, at))),
        None => Ok(states.len()),
    }
}

/// A state from which no settled one can be reached.
fn stuck<S: Space>(states: &[S], leads_here: &[Vec<u32>]) -> Option<usize> {
    let mut reaches: Vec<bool> = states.iter().map(Space::is_settled).collect();
    let mut open: Vec<usize> = (0..states.len()).filter(|at| reaches[*at]).collect();
    while let Some(at) = open.pop() {
        for before in &leads_here[at] {
            let before = *before as usize;
            if !reaches[before] {
                reaches[before] = true;
                open.push(before);
            }
        }
    }
    reaches.iter().position(|reaches| !reaches)
}

fn way<S: Space>(states: &[S], from: &[usize], mut at: usize) -> String {
    let mut lines = Vec::new();
    while at != 0 {
        lines.push(format!("{:?}", states[at]));
        at = from[at];
    }
    lines.reverse();
    lines.join("\n")
}
