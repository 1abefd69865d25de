//! What a gate answers, and how several answers become one.

/// A gate's answer. What cannot be told is never taken for a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Go,
    /// It must not happen, and why.
    NoGo(String),
    /// It cannot be told, and why.
    Unclear(String),
}

impl Verdict {
    /// One verdict of many: go only when all go. A no outranks what is unclear; every reason is kept.
    #[must_use]
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        let (mut reasons, mut is_no) = (Vec::new(), false);
        for verdict in verdicts {
            match verdict {
                Self::Go => {}
                Self::NoGo(why) => {
                    is_no = true;
                    reasons.push(why);
                }
                Self::Unclear(why) => reasons.push(why),
            }
        }
        match (reasons.is_empty(), is_no) {
            (true, _) => Self::Go,
            (false, true) => Self::NoGo(reasons.join("; ")),
            (false, false) => Self::Unclear(reasons.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_go_only_when_all_go_and_keep_every_reason() {
        let (no, unclear) = (Verdict::NoGo("closed".into()), Verdict::Unclear("silent".into()));
        assert_eq!(Verdict::all([]), Verdict::Go);
        assert_eq!(Verdict::all([Verdict::Go, Verdict::Go]), Verdict::Go);
        assert_eq!(Verdict::all([Verdict::Go, unclear.clone()]), unclear);
        assert_eq!(Verdict::all([unclear, no]), Verdict::NoGo("silent; closed".into()));
    }
}
