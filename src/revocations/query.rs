//! What the query of a request names to Hydra, read as its router reads one; where its versions differ nobody can say. Pure.

use super::doors::Values;
use crate::plan::Named;
use url::form_urlencoded::parse;

/// What a query names by the parameters `names`: the first of several values counts, and where it is empty the parameter says nothing. An error
/// is a sentence for the client.
pub(super) fn first_of_each(names: &[(Named, String)], query: &str) -> Result<Values, &'static str> {
    let read = |cut: &[char]| -> Values {
        let pairs = pairs(query, cut);
        let first = |name: &String| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let named = names.iter().filter_map(|(named, name)| Some((*named, first(name)?)));
        named.filter(|(_, value)| !value.is_empty()).collect()
    };
    let values = read(&['&']);
    // Older ones also part pairs at semicolons. Where that makes a difference nobody knows which one it is.
    if read(&['&', ';']) == values {
        Ok(values)
    } else {
        Err("the query of a revocation is written without semicolons")
    }
}

/// The pairs of a query, parted at `cut`, without those that cannot be decoded or that a semicolon is left in: the router passes over them.
fn pairs(query: &str, cut: &[char]) -> Vec<(String, String)> {
    let is_read = |pair: &&str| !pair.contains(';') && is_decodable(pair);
    let pairs = query.split(cut).filter(is_read).flat_map(|pair| parse(pair.as_bytes()));
    pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// Whether each percent sign has its two digits.
fn is_decodable(text: &str) -> bool {
    let is_sound = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    text.split('%').skip(1).all(is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Vec<String>, &'static str> {
        let names = [(Named::Session, "sid".to_owned()), (Named::Subject, "subject".to_owned())];
        let said = |(named, value): (Named, String)| format!("{} {value}", named.as_str());
        first_of_each(&names, query).map(|values| values.into_iter().map(said).collect())
    }

    #[test]
    fn the_first_value_that_can_be_read_counts() {
        for (query, said) in [
            ("sid=s1&sid=s2", "session s1"),
            ("sid=&sid=s1&subject=ann", "subject ann"),
            ("sid=%zz&subject=ann", "subject ann"),
            ("sid=%4&sid=s1", "session s1"),
            ("%73id=a%3Bb", "session a;b"),
            ("subject=a+b%26c", "subject a b&c"),
            ("a;b&subject=ann", "subject ann"),
        ] {
            assert_eq!(read(query), Ok(vec![said.to_owned()]), "{query}");
        }
        for nothing in ["", "&", "sid", "sid=", "Sid=s1", "sid=%"] {
            assert_eq!(read(nothing), Ok(Vec::new()), "{nothing}");
        }
    }

    #[test]
    fn what_a_semicolon_changes_is_not_read() {
        for query in ["sid=s1;x", "x;sid=s1", "subject=ann;sid=s1", "sid=s1;x&subject=ann"] {
            assert!(read(query).is_err(), "{query}");
        }
        assert_eq!(
            read("subject=ann&sid=;sid=s1"),
            Ok(vec!["subject ann".to_owned()]),
            "either way the first is empty"
        );
    }
}
