//! What an engine publishes, on both sides: the discovery document and the public keys. Pure.

use serde_json::Value;

/// How green's discovery document falls short of blue's. The issuer must be the same to the byte; of lists nothing may be missing; anything
/// else must be equal unless the plan lets it differ. What green offers besides is no loss.
pub(super) fn discovery(blue: &Value, green: &Value, may_differ: &[String]) -> Result<(), String> {
    if !blue["issuer"].is_string() || blue["issuer"] != green["issuer"] {
        return Err(format!("the issuer is {} on green and {} on blue", green["issuer"], blue["issuer"]));
    }
    let mut short = Vec::new();
    for (name, offered) in blue.as_object().into_iter().flatten() {
        if may_differ.contains(name) {
            continue;
        }
        match (offered, &green[name]) {
            (Value::Array(all), Value::Array(there)) => {
                let missing: Vec<String> =
                    all.iter().filter(|one| !there.contains(one)).map(ToString::to_string).collect();
                if !missing.is_empty() {
                    short.push(format!("{name} lacks {}", missing.join(", ")));
                }
            }
            (offered, there) if offered != there => {
                short.push(format!("{name} is {there} on green and {offered} on blue"))
            }
            _ => {}
        }
    }
    if short.is_empty() { Ok(()) } else { Err(format!("{} (`may_differ` lets members differ)", short.join("; "))) }
}

/// Which public keys of blue's are missing on green, or are others under the same name: what blue signed would not verify there.
pub(super) fn keys(blue: &Value, green: &Value) -> Result<(), String> {
    let list = |set: &Value| set["keys"].as_array().cloned().unwrap_or_default();
    let there = list(green);
    let is_there = |key: &Value| there.iter().any(|other| material(other) == material(key));
    let lost: Vec<String> = list(blue)
        .iter()
        .filter(|key| !is_there(key))
        .map(|key| key["kid"].as_str().unwrap_or("without a name").to_owned())
        .collect();
    if lost.is_empty() { Ok(()) } else { Err(format!("not on green: the keys {}", lost.join(", "))) }
}

/// What makes a public key the one that it is.
fn material(key: &Value) -> [&Value; 7] {
    ["kid", "kty", "n", "e", "crv", "x", "y"].map(|name| &key[name])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gates_see_what_green_does_not_publish() {
        let blue =
            json!({ "issuer": "https://a/", "token_endpoint": "https://a/t", "scopes_supported": ["openid", "x"] });
        let said = |green: Value, may: &[&str]| {
            let may: Vec<String> = may.iter().map(ToString::to_string).collect();
            discovery(&blue, &green, &may).err().unwrap_or_default()
        };
        let with = |key: &str, value: Value| {
            let mut green = blue.clone();
            green[key] = value;
            green
        };
        assert_eq!(said(blue.clone(), &[]), "");
        assert_eq!(said(with("new", json!(1)), &[]), "", "more is no loss");
        assert_eq!(said(with("scopes_supported", json!(["x", "openid", "y"])), &[]), "");
        assert!(said(with("issuer", json!("https://a")), &["issuer"]).contains("issuer"), "never another issuer");
        assert!(said(with("scopes_supported", json!(["openid"])), &[]).contains("scopes_supported lacks \"x\""));
        assert!(said(with("token_endpoint", json!("https://b/t")), &[]).contains("token_endpoint is"));
        assert_eq!(said(with("token_endpoint", json!("https://b/t")), &["token_endpoint"]), "");
        assert!(said(json!({}), &[]).contains("issuer"));
    }

    #[test]
    fn gates_see_a_lost_or_another_key() {
        let key = |kid: &str, n: &str| json!({ "kid": kid, "kty": "RSA", "n": n, "e": "AQAB" });
        let set = |keys: &[Value]| json!({ "keys": keys });
        let blue = set(&[key("a", "1"), key("b", "2")]);
        assert_eq!(keys(&blue, &set(&[key("c", "3"), key("b", "2"), key("a", "1")])), Ok(()));
        assert_eq!(keys(&set(&[]), &set(&[])), Ok(()), "an engine without keys");
        assert_eq!(keys(&blue, &set(&[key("a", "1")])), Err("not on green: the keys b".to_owned()));
        assert_eq!(keys(&blue, &set(&[key("a", "9"), key("b", "2")])), Err("not on green: the keys a".to_owned()));
    }
}
