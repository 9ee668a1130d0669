//! Conversion of parsed JSON to a message.

use serde_json::{Number, Value as Json};

use super::Value;

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(*flag),
            Json::Number(number) => of_number(number),
            Json::String(text) => Self::Text(text.as_str().into()),
            Json::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Object(entries) => Self::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.as_str().into(), value.into()))
                    .collect(),
            ),
        }
    }
}

impl From<Json> for Value<'static> {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(flag),
            Json::Number(number) => of_number(&number),
            Json::String(text) => Self::Text(text.into()),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Json::Object(entries) => Self::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect(),
            ),
        }
    }
}

fn of_number<'a>(number: &Number) -> Value<'a> {
    if let Some(integer) = number.as_i64() {
        return Value::Integer(integer);
    }
    match number.as_f64() {
        Some(float) if number.is_f64() => Value::Float(float),
        _ => Value::BigInteger(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_json_is_a_value() {
        let json: Json = serde_json::from_str(
            r#"{"a":null,"b":[true,-7,1.5],"c":"x","d":9223372036854775807,"e":9223372036854775808}"#,
        )
        .unwrap();
        let list = vec![Value::Bool(true), Value::Integer(-7), Value::Float(1.5)];
        let expected = vec![
            ("a".into(), Value::Null),
            ("b".into(), Value::List(list)),
            ("c".into(), Value::Text("x".into())),
            ("d".into(), Value::Integer(i64::MAX)),
            ("e".into(), Value::BigInteger("9223372036854775808".into())),
        ];
        let expected = Value::Map(expected);
        assert_eq!(Value::from(&json), expected);
        assert_eq!(Value::from(json), expected);
    }

    #[test]
    fn a_float_is_the_nearest_to_its_digits() {
        let json: Json = serde_json::from_str("0.9073038322028689").unwrap();
        assert_eq!(Value::from(&json), Value::Float(0.907_303_832_202_868_9));
    }
}
