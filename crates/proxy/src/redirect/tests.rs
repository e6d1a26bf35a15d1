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
    at("-A OUTPUT -p tcp -j MUTUA_OUTPUT");
    assert_eq!(lines.iter().filter(|line| **line == "COMMIT").count(), 2);
}

#[test]
fn jumps_that_exist_are_not_added_again() {
    let text = iptables::restore(&Settings::default(), IPV4, &iptables::JUMPS[1..2]);
    assert!(text.contains("-A PREROUTING -p tcp -j MUTUA_INBOUND\n"));
    assert!(!text.contains("-A OUTPUT ") && !text.contains("-A INPUT "), "{text}");
}
