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
        (
            "public_uri",
            SettingValue::Text("https://node.example".into()),
        ),
        ("operator_port", SettingValue::Integer(65_536)),
        ("operator_host", SettingValue::Text("0.0.0.0:1".into())),
        ("control", SettingValue::Text("open".into())),
        ("proxy_protocol", SettingValue::Text("v2".into())),
        ("max_connections_per_ip", SettingValue::Text("ten".into())),
        ("max_connections_per_ip", SettingValue::Text("1e3".into())),
    ] {
        let error = set(name, value.clone()).unwrap_err();
        assert!(error.to_string().starts_with(name), "{error} for {value:?}");
    }
    assert!(set("port", SettingValue::Integer(65_535)).is_ok());
    assert!(set("send_buffer_bytes", SettingValue::Integer(1024)).is_ok());
}

#[test]
fn networks_are_addresses_and_prefixes() {
    let networks = |text: &str| set("trusted_proxies", SettingValue::Text(text.to_owned()));
    let trusted = networks(
        "127.0.0.1, 10.0.0.0/8,2001:DB8::/32, ::ffff:192.0.2.0/120, ::1,::ffff:198.51.100.1",
    )
    .unwrap()
    .trusted_proxies;
    let shown = [
        "127.0.0.1",
        "10.0.0.0/8",
        "2001:db8::/32",
        "192.0.2.0/24",
        "::1",
        "198.51.100.1",
    ];
    assert_eq!(
        trusted.show(),
        SettingValue::List(shown.map(str::to_owned).to_vec())
    );
    assert_eq!(Networks::read(trusted.show()).as_ref(), Some(&trusted));
    for (address, is_trusted) in [
        ("127.0.0.1", true),
        ("::ffff:127.0.0.1", true),
        ("127.0.0.2", false),
        ("10.255.0.1", true),
        ("::ffff:10.1.2.3", true),
        ("11.0.0.0", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::", false),
        ("192.0.2.255", true),
        ("198.51.100.1", true),
        ("::1", true),
        ("::", false),
        ("0.0.0.1", false),
    ] {
        assert_eq!(
            trusted.contains(address.parse().unwrap()),
            is_trusted,
            "{address}"
        );
    }
    let everybody = networks("0.0.0.0/0,::/0").unwrap().trusted_proxies;
    assert!(everybody.contains(IpAddr::V4(Ipv4Addr::BROADCAST)));
    assert!(everybody.contains("::1".parse().unwrap()));
    assert!(!Networks::default().contains(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    for text in [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0",
        "010.0.0.0/8",
        "2001:db8::1/32",
        "2001:db8::/129",
        "::ffff:10.0.0.0/95",
        "[::1]",
        "127.0.0.1:80",
        "localhost",
        "fe80::1%eth0",
        "*",
        ",",
    ] {
        let error = networks(text).unwrap_err().to_string();
        assert!(
            error.starts_with("trusted_proxies must be a list"),
            "{error} for {text}"
        );
    }
    let many = |count: usize| SettingValue::List(vec!["::1".to_owned(); count]);
    assert!(set("trusted_proxies", many(1000)).is_ok());
    assert!(set("trusted_proxies", many(1001)).is_err());
}
