//! Whose tokens are, for a few seconds: clients present the same one again and again. Bounded; holds digests, no token.
//!
//! A token's grant never changes while it lives, so that only whether it is still there can be out of date, and that is the engine's to say.

use super::entries::Key;
use crate::plan::Side;
use crate::revocations::{Identity, Kind};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const MOST: usize = 50_000;
const KNOWN: Duration = Duration::from_secs(5);
/// A token that the side does not know, shorter: it may be about to be born.
const UNKNOWN: Duration = Duration::from_secs(1);

/// Answers by side and signature.
#[derive(Default)]
pub(super) struct Cache {
    answers: HashMap<Key, (Arc<[Identity]>, Instant)>,
}

/// The key of a question.
pub(super) fn key(side: Side, kinds: &[Kind], forms: &[String]) -> Key {
    Key::signature(&format!("{side} {kinds:?} {}", forms.join(" ")))
}

impl Cache {
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Arc<[Identity]>> {
        let (answer, until) = self.answers.get(key)?;
        (now < *until).then(|| Arc::clone(answer))
    }

    pub(super) fn put(&mut self, key: Key, answer: Arc<[Identity]>, now: Instant) {
        if self.answers.len() >= MOST {
            self.answers.retain(|_, (_, until)| now < *until);
        }
        // Full of what is still good: to ask again costs less than to remember more.
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        let life = if answer.is_empty() { UNKNOWN } else { KNOWN };
        self.answers.insert(key, (answer, now + life));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_a_while_and_the_memory_is_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let question = key(Side::Blue, &[Kind::Access], &["s".into()]);
        assert_ne!(question, key(Side::Green, &[Kind::Access], &["s".into()]), "each side for itself");
        cache.put(question, Arc::from([]), now);
        assert!(cache.get(&question, now).is_some());
        assert!(cache.get(&question, now + UNKNOWN).is_none());
        for number in 0..2 * MOST {
            cache.put(Key::signature(&number.to_string()), Arc::from([]), now);
        }
        assert!(cache.answers.len() <= MOST);
    }
}
