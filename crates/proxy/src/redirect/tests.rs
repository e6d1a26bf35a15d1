use super::*;

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn the_default_rules_are_istios() {
    let script = nft::script(&Settings::default());
    let wanted = "\
table inet mutua
delete table inet mutua
table inet mutua {
	chain outbound {
		type nat hook output priority -100; policy accept;
		oifname \"lo\" ip saddr 127.0.0.6 return
		oifname \"lo\" ip6 saddr ::6 return
		oifname \"lo\" meta skuid 1337 ip daddr != 127.0.0.1 tcp dport != 15008 redirect to :15006
		oifname \"lo\" meta skuid 1337 ip6 daddr != ::1 tcp dport != 15008 redirect to :15006
		oifname \"lo\" meta skgid 1337 ip daddr != 127.0.0.1 tcp dport != 15008 redirect to :15006
		oifname \"lo\" meta skgid 1337 ip6 daddr != ::1 tcp dport != 15008 redirect to :15006
		meta skuid 1337 return
		meta skgid 1337 return
		oifname \"lo\" return
		meta l4proto tcp redirect to :15001
	}
	chain inbound {
		type nat hook prerouting priority -100; policy accept;
		tcp dport { 15001, 15006, 15008, 15020, 15021, 15090 } return
		meta l4proto tcp redirect to :15006
	}
	chain guard {
		type filter hook input priority 0; policy accept;
		tcp dport { 15001, 15006 } ct status dnat accept
		tcp dport { 15001, 15006 } reject with tcp reset
	}
}
";
    assert_eq!(script, wanted);
}

#[test]
fn a_mark_takes_the_place_of_the_owner() {
    let settings = Settings { exempt: Exempt::Mark(0x539), ..Settings::default() };
    for text in [nft::script(&settings), iptables::restore(&settings, IPV4, &[])] {
        assert!(!text.contains("skuid") && !text.contains("--uid-owner"), "{text}");
    }
    assert!(nft::script(&settings).contains("\t\tmeta mark 0x00000539 return\n"));
    assert!(iptables::restore(&settings, IPV4, &[]).contains("-A MUTUA_OUTPUT -m mark --mark 0x539 -j RETURN\n"));
}

#[test]
fn a_machine_without_ipv6_gets_rules_for_ipv4_only() {
    let script = nft::script(&Settings { ipv6: false, ..Settings::default() });
    assert!(!script.contains("ip6") && script.contains("table ip mutua {"), "{script}");
}

#[test]
fn excluded_ports_are_left_alone_and_nothing_else() {
    let settings =
        Settings { exclude_inbound_ports: vec![22, 15020], exclude_outbound_ports: vec![53, 53], ..Settings::default() };
    let script = nft::script(&settings);
    assert!(script.contains("tcp dport { 22, 15001, 15006, 15008, 15020, 15021, 15090 } return"), "{script}");
    assert!(script.contains("tcp dport { 53 } return"), "{script}");
}

#[test]
fn iptables_says_the_same_for_each_family() {
    let text = iptables::restore(&Settings::default(), IPV6, &iptables::JUMPS);
    let lines = lines(&text);
    let at = |wanted: &str| lines.iter().position(|line| *line == wanted).unwrap_or_else(|| panic!("{wanted} is not in\n{text}"));
    let source = at("-A MUTUA_OUTPUT -s ::6/128 -o lo -j RETURN");
    let own = at(
        "-A MUTUA_OUTPUT ! -d ::1/128 -o lo -p tcp -m owner --uid-owner 1337 -m tcp ! --dport 15008 -j REDIRECT --to-ports 15006",
    );
    let exempt = at("-A MUTUA_OUTPUT -m owner --uid-owner 1337 -j RETURN");
    let all = at("-A MUTUA_OUTPUT -p tcp -j REDIRECT --to-ports 15001");
    assert!(source < own && own < exempt && exempt < all);
    at("-A OUTPUT -j MUTUA_OUTPUT");
    assert_eq!(lines.iter().filter(|line| **line == "COMMIT").count(), 4);
}

#[test]
fn jumps_that_exist_are_not_added_again() {
    let text = iptables::restore(&Settings::default(), IPV4, &iptables::JUMPS[1..2]);
    assert!(text.contains("-A PREROUTING -p tcp -j MUTUA_INBOUND\n"));
    assert!(!text.contains("-A OUTPUT ") && !text.contains("-A INPUT "), "{text}");
}

/// What lists and ranges make of the rules, in both tools' words.
fn restricted() -> Settings {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Settings {
        dns: Captured::These(vec!["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()]),
        include_inbound_ports: Captured::These(vec![9090, 80]),
        exclude_inbound_ports: vec![22],
        include_outbound_ranges: Captured::These(nets(&["10.96.0.0/12", "fd00::/8"])),
        exclude_outbound_ranges: nets(&["10.96.0.1/32", "169.254.0.0/16"]),
        include_outbound_ports: vec![443],
        exclude_outbound_ports: vec![25],
        exclude_interfaces: vec!["eth1".to_owned()],
        ..Settings::default()
    }
}

#[test]
fn lists_ranges_interfaces_and_name_servers_are_istios() {
    let script = nft::script(&restricted());
    let chain = |name: &str| {
        let (_, rest) = script.split_once(&format!("chain {name} {{\n")).unwrap();
        lines(rest.split_once("\t}").unwrap().0)[1..].to_vec()
    };
    assert_eq!(
        chain("inbound"),
        [
            "iifname { \"eth1\" } return",
            "tcp dport { 15001, 15006, 15008, 15020, 15021, 15090 } return",
            "tcp dport { 80, 9090 } redirect to :15006",
        ]
    );
    let outbound = chain("outbound");
    assert_eq!(outbound[..3], ["oifname { \"eth1\" } return", "tcp dport { 25 } return", "udp dport { 25 } return"]);
    assert!(outbound[5].ends_with("ip daddr != 127.0.0.1 tcp dport != { 53, 15008 } redirect to :15006"), "{outbound:#?}");
    let tail = [
        "meta skgid 1337 return",
        "ip daddr { 10.96.0.10 } udp dport 53 redirect to :15053",
        "ip6 daddr { fd00::a } udp dport 53 redirect to :15053",
        "ip daddr { 10.96.0.10 } tcp dport 53 redirect to :15053",
        "ip6 daddr { fd00::a } tcp dport 53 redirect to :15053",
        "oifname \"lo\" return",
        "ip daddr { 10.96.0.1, 169.254.0.0/16 } return",
        "ip daddr { 10.96.0.0/12 } meta l4proto tcp redirect to :15001",
        "ip6 daddr { fd00::/8 } meta l4proto tcp redirect to :15001",
        "tcp dport { 443 } redirect to :15001",
    ];
    assert_eq!(outbound[outbound.len() - tail.len()..], tail);
    let text = iptables::restore(&restricted(), IPV4, &[]);
    let wanted = [
        "-A MUTUA_OUTPUT -o eth1 -j RETURN",
        "-A MUTUA_OUTPUT -d 10.96.0.10/32 -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053",
        "-A MUTUA_OUTPUT -d 169.254.0.0/16 -j RETURN",
        "-A MUTUA_OUTPUT -d 10.96.0.0/12 -p tcp -j REDIRECT --to-ports 15001",
        "-A MUTUA_OUTPUT -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 15001",
        "-A MUTUA_INBOUND -i eth1 -j RETURN",
        "-A MUTUA_INBOUND -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 15006",
        "-A MUTUA_ZONES_OUT -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1",
        "-A MUTUA_ZONES_OUT -d 10.96.0.10/32 -p udp -m udp --dport 53 -j CT --zone 2",
        "-A MUTUA_ZONES_IN -s 10.96.0.10/32 -p udp -m udp --sport 53 -j CT --zone 1",
    ];
    let mut found = lines(&text);
    found.retain(|line| wanted.contains(line));
    assert_eq!(found, wanted, "{text}");
    assert!(!text.contains("fd00") && !text.contains("dport 22 "), "{text}");
}

#[test]
fn what_is_captured_is_known_without_asking_the_kernel() {
    let settings = restricted();
    let to = |text: &str| settings.captures_outbound(text.parse().unwrap());
    assert!(to("10.96.0.2:80") && to("192.0.2.1:443") && to("[fd00::1]:80"));
    assert!(!to("192.0.2.1:80") && !to("10.96.0.1:80") && !to("10.96.0.2:25") && !to("169.254.0.1:443"));
    assert!(settings.captures_inbound(80) && !settings.captures_inbound(8080));
    let all = Settings { exclude_inbound_ports: vec![22], ..Settings::default() };
    assert!(all.captures_inbound(80) && !all.captures_inbound(22) && !all.captures_inbound(15021));
    assert!(all.captures_outbound("192.0.2.1:80".parse().unwrap()));
}

#[test]
fn all_name_servers_or_those_of_the_families() {
    let all = nft::script(&Settings { dns: Captured::All, ..Settings::default() });
    assert_eq!(all.matches("\t\tudp dport 53 redirect to :15053\n").count(), 1, "{all}");
    assert!(all.contains("\t\tudp sport 53 ct zone set 1\n"));
    let four = Settings { dns: Captured::These(vec!["10.96.0.10".parse().unwrap()]), ..Settings::default() };
    assert!(!iptables::restore(&four, IPV6, &[]).contains("--to-ports 15053") && !nft::script(&four).contains("ip6 daddr {"));
}
