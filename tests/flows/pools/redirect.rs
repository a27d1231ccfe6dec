//! RES-09: phones that register elsewhere are told where home is, if the policy of their pool says so.

use expect_test::expect;

use super::*;

const EVERYBODY: &str = "redirect = true";

#[test]
fn a_phone_that_registers_at_the_backup_is_sent_home_and_learns_both_addresses() {
    let mut world =
        world("redirect = function(user, phone) return phone.user_agent:find('^Roamer') ~= nil end");
    let [bob, carol] = ["bob", "carol"].map(|user| world.add_phone(user));
    for phone in [bob, carol] {
        world.move_phone(phone, "fw1");
    }
    world.phones[bob].user_agent = "Roamer 7.1";
    world.phones[bob].follows = true;
    world.start_ladder();
    world.act(bob, |phone| phone.register(3600));
    world.run_for(seconds(2));
    expect![[r#"
        +0.000  bob   -> fw1    REGISTER sip:example.test
        +0.012  fw1   -> bob    401 Unauthorized
        +0.022  bob   -> fw1    REGISTER sip:example.test
        +0.034  fw1   -> bob    301 Moved Permanently
        +0.044  bob   -> fe1    REGISTER sip:example.test
        +0.054  fe1   -> bob    401 Unauthorized
        +0.064  bob   -> fe1    REGISTER sip:example.test
        +0.074  fe1   -> bob    200 OK
    "#]]
    .assert_eq(&world.ladder());
    let told = "<sip:192.0.2.1:5060;transport=udp>;q=0.7, <sip:192.0.2.202:5060;transport=udp>;q=0.3";
    assert_eq!(world.phones[bob].sent_home, [told]);
    assert!(world.phones[bob].registered);
    // A phone the policy does not name is taken where it comes, and reached there.
    world.act(carol, |phone| phone.register(3600));
    world.run_for(seconds(2));
    assert!(world.phones[carol].registered && world.phones[carol].sent_home.is_empty());
    let (b, c) = world.connect(bob, carol);
    assert_hold_works(&mut world, (bob, b), (carol, c));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(seconds(2));
    assert!(world.phones[carol].call(c).over);
}

#[test]
fn who_was_sent_home_and_comes_back_is_taken_where_it_comes() {
    let mut world = world(EVERYBODY);
    let [bob] = ["bob"].map(|user| world.add_phone(user));
    world.move_phone(bob, "fw1");
    for _ in 0..3 {
        world.act(bob, |phone| phone.register(3600));
        world.run_for(seconds(2));
    }
    assert_eq!(world.phones[bob].sent_home.len(), 1, "never a circle");
    assert!(world.phones[bob].registered);
    assert_eq!(world.told("user.redirected").len(), 1);
}

#[test]
fn at_home_in_a_call_and_when_it_asks_or_leaves_a_phone_is_not_redirected() {
    let mut world = world("");
    let [alice, bob, erin] = world.phones_at([("alice", "fe1"), ("bob", "fw1"), ("erin", "fw1")]);
    let (b, e) = world.connect(bob, erin);
    let east = "return (require 'default'):extend { resiliency = { redirect = true } }";
    world.edit_policies(&[("pools/east.lua", east)]);
    for phone in [alice, bob, erin] {
        world.act(phone, |phone| phone.register(3600));
    }
    world.run_for(seconds(2));
    assert!(world.phones.iter().all(|phone| phone.sent_home.is_empty() && phone.registered));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(seconds(40));
    assert!(world.phones[erin].call(e).over);
    // Who leaves, leaves.
    world.act(bob, |phone| phone.register(0));
    world.run_for(seconds(2));
    assert!(world.phones[bob].sent_home.is_empty() && !world.phones[bob].registered);
    world.act(bob, |phone| phone.register(3600));
    world.run_for(seconds(2));
    assert_eq!(world.phones[bob].sent_home.len(), 1);
}

#[test]
fn nobody_is_sent_to_a_home_that_does_not_serve_and_everybody_again_when_it_is_back() {
    let mut world = world(EVERYBODY);
    let [bob] = ["bob"].map(|user| world.add_phone(user));
    world.move_phone(bob, "fw1");
    world.phones[bob].follows = true;
    lose_east_for_good(&mut world);
    let register = |world: &mut World| {
        world.phones[bob].registered = false;
        world.act(bob, |phone| phone.register(3600));
        world.run_for(seconds(2));
        assert!(world.phones[bob].registered);
        world.phones[bob].sent_home.len()
    };
    assert_eq!(register(&mut world), 0);
    move_east(&mut world, Ask::Failover);
    assert_eq!(register(&mut world), 0);
    start_east(&mut world);
    assert_eq!(register(&mut world), 0);
    move_east(&mut world, FAILBACK);
    assert_eq!(register(&mut world), 1);
    // It is lost once more, this time with the phone at it: from there it is known where else to go.
    move_east(&mut world, Ask::Failover);
    world.move_phone(bob, "fw1");
    assert_eq!(register(&mut world), 1);
    move_east(&mut world, FAILBACK);
    assert_eq!(register(&mut world), 2);
    assert_eq!(world.phones[bob].host(), world.hosts[0].address);
}
