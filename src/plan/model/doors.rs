//! Which requests are revocations: where each stands, and where it says whom it means. Pure.

use crate::plan::document::{Door, Listener};

/// The kinds of requests that are revocations. No two of them fit one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doors {
    /// Each kind.
    pub patterns: Vec<DoorPattern>,
}

/// One kind of request that is a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorPattern {
    /// What it revokes.
    pub door: Door,
    /// Where it comes in.
    pub listener: Listener,
    /// Its methods, in capitals.
    pub methods: Vec<&'static str>,
    /// Its path, segment by segment.
    pub path: Vec<DoorSegment>,
    /// Parameters of the query that say whom it means.
    pub query: Vec<(Named, String)>,
    /// Fields of the form that say it.
    pub form: Vec<(Named, String)>,
    /// Statuses beside those of success by which the engine says that it was done.
    pub done: Vec<u16>,
    /// One of Hydra's own: it decodes a path before it cuts it, takes the first of several values, and does nothing where nobody is named. Of
    /// another engine nobody knows that.
    pub is_hydras: bool,
}

/// A segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorSegment {
    /// Exactly this.
    Text(String),
    /// Any one segment; it says whom the request means.
    Value(Named),
}

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// A token.
    Token,
    /// A subject.
    Subject,
    /// A client.
    Client,
    /// A consent, by its challenge.
    Consent,
    /// A login session.
    Session,
    /// A logout's verifier, which leads to its session.
    Verifier,
}

impl Named {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Token, Self::Subject, Self::Client, Self::Consent, Self::Session, Self::Verifier];

    /// Its word in a plan.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Subject => "subject",
            Self::Client => "client",
            Self::Consent => "consent",
            Self::Session => "session",
            Self::Verifier => "verifier",
        }
    }

    /// Those of which a door needs one.
    #[must_use]
    pub fn needed_by(door: Door) -> &'static [Self] {
        match door {
            Door::Token => &[Self::Token],
            Door::Consent => &[Self::Subject, Self::Consent],
            Door::LoginSession => &[Self::Subject, Self::Session],
            Door::ClientTokens | Door::ClientDelete | Door::ClientUpdate => &[Self::Client],
            Door::Logout => &[Self::Verifier],
        }
    }

    /// Whether a door looks at it.
    #[must_use]
    pub fn is_looked_at_by(self, door: Door) -> bool {
        Self::needed_by(door).contains(&self) || (door == Door::Consent && self == Self::Client)
    }
}

impl Doors {
    /// Those of Ory Hydra, 1.x and 2.x: the admin API with and without `/admin`.
    #[must_use]
    pub fn hydra() -> Self {
        let mut patterns = Vec::new();
        for (door, listener, methods, path, query, form) in hydras() {
            let prefixes: &[&str] = if listener == Listener::Admin { &["", "/admin"] } else { &[""] };
            patterns.extend(prefixes.iter().map(|prefix| DoorPattern {
                door,
                listener,
                methods: methods.to_vec(),
                path: DoorSegment::all(&format!("{prefix}{path}")).expect("a path of ours"),
                query: query.iter().map(|(named, name)| (*named, (*name).to_owned())).collect(),
                form: form.iter().map(|(named, name)| (*named, (*name).to_owned())).collect(),
                done: Vec::new(),
                is_hydras: true,
            }));
        }
        Self { patterns }
    }
}

type Places = &'static [(Named, &'static str)];
type Row = (Door, Listener, &'static [&'static str], &'static str, Places, Places);

fn hydras() -> Vec<Row> {
    const CHANGE: &[&str] = &["PUT", "PATCH"];
    const CONSENT: Places =
        &[(Named::Consent, "consent_request_id"), (Named::Subject, "subject"), (Named::Client, "client")];
    const LOGIN: Places = &[(Named::Session, "sid"), (Named::Subject, "subject")];
    const VERIFIER: Places = &[(Named::Verifier, "logout_verifier")];
    const CLIENT: Places = &[(Named::Client, "client_id")];
    const TOKEN: Places = &[(Named::Token, "token")];
    let (public, admin) = (Listener::Public, Listener::Admin);
    vec![
        (Door::Token, public, &["POST"], "/oauth2/revoke", &[], TOKEN),
        (Door::Logout, public, &["GET", "POST"], "/oauth2/sessions/logout", VERIFIER, &[]),
        (Door::ClientDelete, public, &["DELETE"], "/oauth2/register/{client}", &[], &[]),
        (Door::ClientUpdate, public, CHANGE, "/oauth2/register/{client}", &[], &[]),
        (Door::ClientDelete, public, &["DELETE"], "/connect/register/{client}", &[], &[]),
        (Door::ClientUpdate, public, CHANGE, "/connect/register/{client}", &[], &[]),
        (Door::ClientDelete, admin, &["DELETE"], "/clients/{client}", &[], &[]),
        (Door::ClientUpdate, admin, CHANGE, "/clients/{client}", &[], &[]),
        (Door::ClientUpdate, admin, &["PUT"], "/clients/{client}/lifespans", &[], &[]),
        (Door::ClientTokens, admin, &["DELETE"], "/oauth2/tokens", CLIENT, &[]),
        (Door::Consent, admin, &["DELETE"], "/oauth2/auth/sessions/consent", CONSENT, &[]),
        (Door::LoginSession, admin, &["DELETE"], "/oauth2/auth/sessions/login", LOGIN, &[]),
    ]
}

impl DoorPattern {
    /// Whether a request could fit both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&DoorSegment, &DoorSegment)| match (one, other) {
            (DoorSegment::Text(one), DoorSegment::Text(other)) => one == other,
            _ => true,
        };
        self.listener == other.listener
            && self.methods.iter().any(|method| other.methods.contains(method))
            && self.path.len() == other.path.len()
            && self.path.iter().zip(&other.path).all(is_same)
    }

    /// Everything it says whom it means by, once for each place.
    pub fn named(&self) -> impl Iterator<Item = Named> {
        let path = self.path.iter().filter_map(|segment| match segment {
            DoorSegment::Value(named) => Some(*named),
            DoorSegment::Text(_) => None,
        });
        path.chain(self.query.iter().chain(&self.form).map(|(named, _)| *named))
    }
}

impl DoorSegment {
    /// The segments of a path in a plan; an error says what is wrong with it.
    ///
    /// # Errors
    /// When it is no path, or holds something else than segments and names in braces.
    pub fn all(path: &str) -> Result<Vec<Self>, String> {
        let Some(rest) = path.strip_prefix('/') else { return Err("does not begin with a slash".to_owned()) };
        rest.trim_end_matches('/').split('/').map(Self::one).collect()
    }

    fn one(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if let Some(name) = inner {
            let named = Named::ALL.into_iter().find(|named| named.as_str() == name);
            return named.map(Self::Value).ok_or_else(|| format!("holds {{{name}}}, which no door looks at"));
        }
        if text.is_empty() || text == "." || text == ".." || text.contains(['{', '}', '%', '?', '#', '+', ';']) {
            return Err(format!("holds the segment `{text}`: a segment is plain text or one name in braces"));
        }
        Ok(Self::Text(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hydras_own_doors_are_told_apart() {
        let doors = Doors::hydra().patterns;
        for (n, one) in doors.iter().enumerate() {
            assert!(doors[n + 1..].iter().all(|other| !one.meets(other)), "{one:?}");
            assert!(one.named().all(|named| named.is_looked_at_by(one.door)), "{one:?}");
        }
        assert_eq!(doors.len(), 18);
    }
}
