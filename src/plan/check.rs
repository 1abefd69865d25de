//! The tree against the language: unknown and missing keys, wrong types, all of them. Owns the wording of these; knows only what the JSON
//! Schema says, which is made from the document's own types, so that there is one description of the language.
//!
//! What is wrong is replaced by a harmless stand-in and spoiled, so that the passes after this one can go on and say the rest.

use super::place::Place;
use super::problem::Problems;
use super::tree::{Content, Node};
use serde_json::{Map, Value};

/// Checks the tree and returns it as JSON that fits the schema.
pub(super) fn check(root: &Node, schema: &Value, problems: &mut Problems<'_>) -> Value {
    let mut checker = Checker { definitions: &schema["$defs"], problems };
    checker.node(root, schema, &Place::default())
}

struct Checker<'s, 'p, 'a> {
    definitions: &'s Value,
    problems: &'p mut Problems<'a>,
}

impl<'s> Checker<'s, '_, '_> {
    fn node(&mut self, node: &Node, schema: &'s Value, place: &Place) -> Value {
        let schema = self.followed(schema);
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            return self.any_of(node, schema, choices, place);
        }
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            return match words(schema) {
                Some(words) => self.word(node, schema, &words, place),
                None => self.tagged(node, schema, choices, place),
            };
        }
        if let Some(words) = words(schema) {
            return self.word(node, schema, &words, place);
        }
        if is_free(schema) {
            return self.free(node, place);
        }
        match (&node.content, wanted(schema)) {
            (Content::Null, _) if allows_null(schema) => Value::Null,
            (Content::Map(_), "object") => self.map(node, schema, place),
            (Content::List(items), "array") => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| self.node(item, &schema["items"], &place.index(index))).collect()
            }
            (Content::Text(text), "string") => text.as_str().into(),
            (Content::Bool(value), "boolean") => (*value).into(),
            (Content::Integer(value), "integer") => self.integer(*value, schema, place),
            (Content::Integer(value), "number") => (*value).into(),
            (Content::Number(value), "number") => (*value).into(),
            _ => self.wrong_type(node, schema, place),
        }
    }

    /// What somebody else's language says, such as the body of a request; only keys that stand twice are wrong.
    fn free(&mut self, node: &Node, place: &Place) -> Value {
        match &node.content {
            Content::Null => Value::Null,
            Content::Bool(value) => (*value).into(),
            Content::Integer(value) => (*value).into(),
            Content::Number(value) => (*value).into(),
            Content::Text(text) => text.as_str().into(),
            Content::List(items) => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| self.free(item, &place.index(index))).collect()
            }
            Content::Map(entries) => {
                let mut members = Map::new();
                for entry in entries {
                    let below = place.key(&entry.key);
                    let value = self.free(&entry.node, &below);
                    if members.insert(entry.key.clone(), value).is_some() {
                        let message = format!("`{below}` is given twice");
                        self.problems.at(entry.key_span.clone(), &below, message, "keep one of them");
                    }
                }
                Value::Object(members)
            }
        }
    }

    fn map(&mut self, node: &Node, schema: &'s Value, place: &Place) -> Value {
        let Content::Map(entries) = &node.content else { return Value::Null };
        let known = &schema["properties"];
        let mut checked = Map::new();
        for entry in entries {
            let below = place.key(&entry.key);
            if checked.contains_key(&entry.key) {
                let hint = "keep one of them";
                self.problems.at(entry.key_span.clone(), &below, format!("`{below}` is given twice"), hint);
            } else if let Some(schema) = known.get(&entry.key) {
                checked.insert(entry.key.clone(), self.node(&entry.node, schema, &below));
            } else if let Some(schema) = schema.get("additionalProperties").filter(|schema| schema.is_object()) {
                checked.insert(entry.key.clone(), self.node(&entry.node, schema, &below));
            } else {
                let hint =
                    did_you_mean(&entry.key, known.as_object().into_iter().flat_map(Map::keys).map(String::as_str));
                let whole = if place.is_root() { "a plan".to_owned() } else { format!("`{place}`") };
                let message = format!("{whole} has no key `{}`", entry.key);
                self.problems.at(entry.key_span.clone(), &below, message, hint);
            }
        }
        self.fill_missing(schema, known, &mut checked, place);
        Value::Object(checked)
    }

    fn fill_missing(&mut self, schema: &'s Value, known: &'s Value, checked: &mut Map<String, Value>, place: &Place) {
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if checked.contains_key(key) {
                continue;
            }
            let below = place.key(key);
            let help = self.help(&known[key]);
            self.problems.key(&below, format!("`{below}` is missing"), help);
            checked.insert(key.to_owned(), self.stand_in(&known[key]));
            self.problems.spoil(below);
        }
    }

    /// A value that may have one of several types.
    fn any_of(&mut self, node: &Node, schema: &'s Value, choices: &'s [Value], place: &Place) -> Value {
        let nullable = choices.iter().any(|choice| choice["type"] == "null");
        let others: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
        match (&node.content, others.as_slice()) {
            (Content::Null, _) if nullable => Value::Null,
            (_, [only]) => self.node(node, only, place),
            (_, several) => match several.iter().find(|choice| fits(node, self.followed(choice))) {
                Some(choice) => self.node(node, choice, place),
                None => self.wrong(place, format!("`{place}` cannot be {}", shown(node)), schema),
            },
        }
    }

    /// A map with exactly one key, which says what it is.
    fn tagged(&mut self, node: &Node, schema: &'s Value, choices: &'s [Value], place: &Place) -> Value {
        let tags: Vec<(&String, &Value)> =
            choices.iter().filter_map(|choice| choice["properties"].as_object()).flatten().collect();
        let names: Vec<&str> = tags.iter().map(|(name, _)| name.as_str()).collect();
        let Content::Map(entries) = &node.content else {
            let message =
                format!("`{place}` must be a map with one of the keys {}, not {}", listed(&names), shown(node));
            return self.wrong(place, message, schema);
        };
        let [entry] = entries.as_slice() else {
            let message = format!("`{place}` must have exactly one of the keys {}", listed(&names));
            return self.wrong(place, message, schema);
        };
        let below = place.key(&entry.key);
        match tags.iter().find(|(name, _)| **name == entry.key) {
            Some((name, inner)) => {
                let value = self.node(&entry.node, inner, &below);
                Value::Object(Map::from_iter([((*name).clone(), value)]))
            }
            None => {
                let hint = did_you_mean(&entry.key, names.into_iter());
                self.problems.at(entry.key_span.clone(), &below, format!("`{place}` has no key `{}`", entry.key), hint);
                self.spoiled(place, schema)
            }
        }
    }

    /// One of a few fixed words or numbers.
    fn word(&mut self, node: &Node, schema: &'s Value, words: &[&'s Value], place: &Place) -> Value {
        let given = match &node.content {
            Content::Text(text) => Value::from(text.as_str()),
            Content::Integer(number) => Value::from(*number),
            _ => Value::Null,
        };
        if words.contains(&&given) {
            return given;
        }
        let names: Vec<String> =
            words.iter().map(|word| word.as_str().map_or(word.to_string(), str::to_owned)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let message = format!("`{place}` must be {}, not {}", alternatives(&names), shown(node));
        self.wrong(place, message, schema)
    }

    fn integer(&mut self, value: i64, schema: &'s Value, place: &Place) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let exact = value as f64;
        match (bound("minimum"), bound("maximum")) {
            (Some(least), _) if exact < least => {
                self.wrong(place, format!("`{place}` must be at least {least}"), schema)
            }
            (_, Some(most)) if exact > most => self.wrong(place, format!("`{place}` must be at most {most}"), schema),
            _ if value > i64::from(u32::MAX) && schema["format"] == "uint32" => {
                self.wrong(place, format!("`{place}` must be at most {}", u32::MAX), schema)
            }
            _ => value.into(),
        }
    }

    fn wrong_type(&mut self, node: &Node, schema: &'s Value, place: &Place) -> Value {
        let wanted = match wanted(schema) {
            "string" => "text",
            "array" => "a list",
            "object" => "a map of keys",
            "boolean" => "true or false",
            "integer" => "a whole number",
            _ => "a number",
        };
        let whole = if place.is_root() { "a plan".to_owned() } else { format!("`{place}`") };
        let message = format!("{whole} must be {wanted}, not {}", shown(node));
        if wanted == "text" && matches!(node.content, Content::Bool(_) | Content::Integer(_) | Content::Number(_)) {
            self.problems.value(place, message, "put it in quotes");
            return self.spoiled(place, schema);
        }
        self.wrong(place, message, schema)
    }

    fn wrong(&mut self, place: &Place, message: String, schema: &'s Value) -> Value {
        let help = self.help(schema);
        self.problems.value(place, message, help);
        self.spoiled(place, schema)
    }

    fn spoiled(&mut self, place: &Place, schema: &'s Value) -> Value {
        self.problems.spoil(place.clone());
        self.stand_in(schema)
    }

    /// A harmless value that fits the schema.
    fn stand_in(&self, schema: &'s Value) -> Value {
        let schema = self.followed(schema);
        if allows_null(schema) {
            return Value::Null;
        }
        if let Some(word) = words(schema).and_then(|words| words.first().copied()) {
            return word.clone();
        }
        if let Some(first) =
            ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)).and_then(|choices| choices.get(0))
        {
            return self.stand_in(first);
        }
        match wanted(schema) {
            "string" => "".into(),
            "array" => Value::Array(Vec::new()),
            "boolean" => false.into(),
            "integer" | "number" => schema.get("minimum").cloned().unwrap_or(Value::from(0)),
            _ => {
                let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                let entry = |key: &str| (key.to_owned(), self.stand_in(&schema["properties"][key]));
                Value::Object(required.filter_map(Value::as_str).map(entry).collect())
            }
        }
    }

    /// What the document says about a key.
    fn help(&self, schema: &'s Value) -> String {
        let text = schema.get("description").or_else(|| self.followed(schema).get("description"));
        text.and_then(Value::as_str).map(|text| text.replace('\n', " ")).unwrap_or_default()
    }

    /// The schema behind a reference.
    fn followed(&self, schema: &'s Value) -> &'s Value {
        match schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
            Some(name) => &self.definitions[name],
            None => schema,
        }
    }
}

/// The type that a schema asks for, null apart.
/// Whether a schema says nothing of what it takes.
fn is_free(schema: &Value) -> bool {
    let says = ["type", "properties", "additionalProperties", "items", "allOf"];
    schema.is_object() && says.iter().all(|word| schema.get(word).is_none())
}

fn wanted(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(one) => one,
        Value::Array(several) => several.iter().filter_map(Value::as_str).find(|one| *one != "null").unwrap_or("null"),
        _ => "object",
    }
}

fn allows_null(schema: &Value) -> bool {
    let in_type = schema["type"].as_array().is_some_and(|types| types.iter().any(|one| one == "null"));
    let in_choice = schema["anyOf"].as_array().is_some_and(|choices| choices.iter().any(|one| one["type"] == "null"));
    in_type || in_choice
}

/// The fixed words of a schema, when it has only such.
fn words(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(only) = schema.get("const") {
        return Some(vec![only]);
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().collect());
    }
    let choices = schema.get("oneOf")?.as_array()?;
    choices.iter().map(|choice| choice.get("const")).collect()
}

/// True when a node has the type of a schema, whatever is inside.
fn fits(node: &Node, schema: &Value) -> bool {
    match &node.content {
        Content::Text(text) => match words(schema) {
            Some(words) => words.iter().any(|word| **word == text.as_str()),
            None => wanted(schema) == "string",
        },
        Content::Integer(_) => matches!(wanted(schema), "integer" | "number"),
        Content::Number(_) => wanted(schema) == "number",
        Content::Bool(_) => wanted(schema) == "boolean",
        Content::List(_) => wanted(schema) == "array",
        Content::Map(_) => words(schema).is_none() && wanted(schema) == "object",
        Content::Null => allows_null(schema),
    }
}

/// A value as a message shows it: short words themselves, the rest by kind.
fn shown(node: &Node) -> String {
    match &node.content {
        Content::Bool(value) => format!("`{value}`"),
        Content::Integer(value) => format!("the number {value}"),
        Content::Number(value) => format!("the number {value}"),
        Content::Text(text)
            if text.len() <= 24 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) =>
        {
            format!("`{text}`")
        }
        _ => node.kind().to_owned(),
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn alternatives(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// The nearest known name, or all of them when none is near.
pub(super) fn did_you_mean<'k>(given: &str, known: impl Iterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known.iter().map(|name| (distance(given, name), *name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + given.chars().count() / 4 => format!("did you mean `{name}`?"),
        Some(_) => format!("known here: {}", listed(&known)),
        None => "leave it out".to_owned(),
    }
}

/// How many letters must change, come or go (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
