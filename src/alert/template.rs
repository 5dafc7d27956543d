//! A webhook's own body: text with `{field}` places.
//!
//! Every field of the event's JSON may stand in braces: `{message}`, `{severity}`, `{days_left}`, and also `{title}` (one short line).
//! In a template that starts with `[` or a `{` of its own (JSON) what is put in is escaped for the inside of a JSON string, and a field that does not
//! apply is empty where it stands in quotes, else `null`; lists (`{names}`, `{certificates}`) are whole JSON arrays. In any other
//! template it goes in as it is, lists joined by `, `. `{{field}}` stands for `{field}` itself; every other brace for itself.

use serde_json::{Map, Value};

use super::Error;
use super::message;
use crate::config::{EventKind, Language};
use crate::report::Event;

/// Checks that every `{field}` is one, and that a JSON template gives JSON.
pub fn check_template(template: &str) -> Result<(), String> {
    let event = example();
    let body = render(template, &event, Language::En)?;
    if is_json(template) {
        serde_json::from_str::<Value>(&body)
            .map_err(|error| format!("the template does not give JSON once its fields are filled in: {error}"))?;
    }
    Ok(())
}

/// The body for one event.
pub(super) fn fill(template: &str, event: &Event, language: Language) -> Result<String, Error> {
    render(template, event, language).map_err(Error::Settings)
}

/// Whether the body is JSON: then it is sent as such.
pub(super) fn is_json(template: &str) -> bool {
    let start = template.trim_start();
    start.starts_with('[') || (start.starts_with('{') && place(start).is_none())
}

fn render(template: &str, event: &Event, language: Language) -> Result<String, String> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(event) else { return Err("failed to encode the event".to_owned()) };
    fields.insert("title".to_owned(), Value::String(message::title(event, language)));
    let json = is_json(template);
    let mut body = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        body.push_str(before);
        match place(from) {
            Some(Place::Field(name)) => {
                let quoted = before.ends_with('"');
                body.push_str(&value(&fields, name, json, quoted)?);
                rest = from.get(name.len() + 2..).unwrap_or_default();
            }
            Some(Place::Literal(name)) => {
                body.push_str(&format!("{{{name}}}"));
                rest = from.get(name.len() + 4..).unwrap_or_default();
            }
            None => {
                body.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    body.push_str(rest);
    Ok(body)
}

enum Place<'a> {
    Field(&'a str),
    Literal(&'a str),
}

/// What stands at an opening brace.
fn place(from: &str) -> Option<Place<'_>> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let name = |text: &'_ str| text.find('}').and_then(|end| text.get(..end).map(|name| (name.to_owned(), end)));
    let inner = from.get(1..)?;
    if let Some(twice) = inner.strip_prefix('{')
        && let Some((found, end)) = name(twice)
        && is_name(&found)
        && twice.get(end..end + 2) == Some("}}")
    {
        return twice.get(..end).map(Place::Literal);
    }
    let (found, end) = name(inner)?;
    if is_name(&found) { inner.get(..end).map(Place::Field) } else { None }
}

fn value(fields: &Map<String, Value>, name: &str, json: bool, quoted: bool) -> Result<String, String> {
    let Some(value) = fields.get(name) else {
        let known: Vec<&str> = fields.keys().map(String::as_str).collect();
        return Err(format!("the template has no field `{{{name}}}`: there are {}", known.join(", ")));
    };
    Ok(match (value, json) {
        (Value::String(text), true) => inside_quotes(text),
        (Value::String(text), false) => text.clone(),
        (Value::Null, true) if !quoted => "null".to_owned(),
        (Value::Null, _) => String::new(),
        (Value::Array(items), false) => items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(", "),
        (other, _) => other.to_string(),
    })
}

fn inside_quotes(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// An event with awkward words: quotes, a backslash, a line end.
fn example() -> Event {
    let subject = message::Subject {
        host: "web-\"1\"\\\n",
        certificate: None,
        names: &[],
        provider: None,
        id: None,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    super::rules::event(EventKind::Test, "test".to_owned(), &subject, &message::Story::Test { channel: "example" })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            certificate: Some("api".into()),
            names: vec!["a.example".into(), "b.example".into()],
            days_left: Some(9),
            message: "say \"hi\"\nnow".into(),
            ..example()
        }
    }

    #[test]
    fn fields_are_filled_in() {
        let body = render(
            r#"{"text":"{message}","days":{days_left},"names":{names},"t":"{target}","n":{target}}"#,
            &event(),
            Language::En,
        )
        .unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["text"], "say \"hi\"\nnow");
        assert_eq!(body["days"], 9);
        assert_eq!(body["names"], serde_json::json!(["a.example", "b.example"]));
        assert_eq!(body["t"], "");
        assert_eq!(body["n"], Value::Null);
    }

    #[test]
    fn text_goes_in_as_it_is() {
        assert_eq!(
            render("certificate {certificate} of {names}: {message}", &event(), Language::En).unwrap(),
            "certificate api of a.example, b.example: say \"hi\"\nnow"
        );
    }

    #[test]
    fn braces_that_are_no_field_stay() {
        assert_eq!(render("x{{message}}y { } {A} {\"a\":{}}", &event(), Language::En).unwrap(), "x{message}y { } {A} {\"a\":{}}");
        assert_eq!(render(r#"{"a":{"b":{"c":1}}}"#, &event(), Language::En).unwrap(), r#"{"a":{"b":{"c":1}}}"#);
        assert_eq!(render("tail {", &event(), Language::En).unwrap(), "tail {");
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_the_known_ones() {
        let error = check_template(r#"{"text":"{mesage}"}"#).unwrap_err();
        assert!(error.contains("`{mesage}`") && error.contains("message, ") && error.contains("title"), "{error}");
    }

    #[test]
    fn a_json_template_must_give_json() {
        assert_eq!(check_template(r#"{"text":"{message}"}"#), Ok(()));
        assert_eq!(check_template("{host}: {message}"), Ok(()));
        assert!(check_template(r#"{"text":{message}}"#).is_err());
        assert_eq!(check_template("plain {message}"), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics(template in ".{0,200}") {
            let _ = check_template(&template);
        }
    }
}
