use super::*;

fn set(name: &str, value: SettingValue) -> Result<Settings, SettingError> {
    let mut settings = Settings::default();
    settings.set(name, value).map(|()| settings)
}

#[test]
fn every_default_is_taken_back_by_its_own_row() {
    let mut settings = Settings::default();
    for row in Settings::table() {
        settings.set(row.name, row.default).unwrap();
    }
    assert_eq!(settings, Settings::default());
}

#[test]
fn numbers_switches_and_lists_may_come_as_text() {
    let text = |text: &str| SettingValue::Text(text.to_owned());
    assert_eq!(set("port", text(" 99 ")).unwrap().port, 99);
    assert!(set("commitments", text("true")).unwrap().commitments);
    assert_eq!(
        set("excluded_topic_keys", text("A, *b ,,"))
            .unwrap()
            .excluded_topic_keys,
        ["a", "*b"]
    );
    for (host, expected) in [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "::1"),
        (" [::1] ", "::1"),
    ] {
        let expected: IpAddr = expected.parse().unwrap();
        assert_eq!(set("host", text(host)).unwrap().host, expected);
    }
    for (name, value) in [
        ("origins", text("")),
        ("origins", SettingValue::List(Vec::new())),
    ] {
        assert!(set(name, value).unwrap().origins.is_empty());
    }
}

#[test]
fn bad_settings_are_named() {
    assert_eq!(
        set("ports", SettingValue::Integer(1)),
        Err(SettingError::Unknown("ports".into()))
    );
    for (name, value) in [
        ("port", SettingValue::Integer(65_536)),
        ("port", SettingValue::Integer(-1)),
        ("port", SettingValue::Text("http".into())),
        ("host", SettingValue::Text("nowhere.example".into())),
        ("public_host", SettingValue::Text("a b".into())),
        ("commitments", SettingValue::Integer(1)),
        ("send_buffer_bytes", SettingValue::Integer(1023)),
        ("excluded_topic_keys", SettingValue::Boolean(true)),
        ("origins", SettingValue::Text("app.example".into())),
        ("endpoints", SettingValue::Text("info,pages".into())),
        ("origins", SettingValue::Text("https://app.example/".into())),
        (
            "origins",
            SettingValue::Text("https://app.example:443".into()),
        ),
        ("origins", SettingValue::Text(" ".into())),
        ("origins", SettingValue::Text(",".into())),
        ("endpoints", SettingValue::Text(",".into())),
        ("host", SettingValue::Text("127.0.01".into())),
        ("host", SettingValue::Text("127.0.0.1:80".into())),
        ("host", SettingValue::Text("[127.0.0.1]".into())),
        ("host", SettingValue::Text("[::1]:80".into())),
        ("host", SettingValue::Text("[::1".into())),
        ("host", SettingValue::Text("*".into())),
        ("host", SettingValue::Text(String::new())),
        ("public_host", SettingValue::Text("node.example:443".into())),
        ("public_host", SettingValue::Text("2001:db8::1".into())),
        ("max_connections_per_ip", SettingValue::Text("ten".into())),
        ("max_connections_per_ip", SettingValue::Text("1e3".into())),
    ] {
        let error = set(name, value.clone()).unwrap_err();
        assert!(error.to_string().starts_with(name), "{error} for {value:?}");
    }
    assert!(set("port", SettingValue::Integer(65_535)).is_ok());
    assert!(set("send_buffer_bytes", SettingValue::Integer(1024)).is_ok());
}
