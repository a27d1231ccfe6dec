//! Every message of RFC 4475 (SIP torture tests) and RFC 5118 (IPv6), written after the RFCs' descriptions with our
//! domain in theirs' place, through the whole host: what a stranger is told, and, where that is a challenge, what a
//! user is told who answers it. The parser's own view of them is in `sip/torture.rs`.

use std::net::SocketAddr;

use bytes::Bytes;
use switchyard_host::engine::Input;
use switchyard_host::net::{Flow, Protocol};
use switchyard_host::registrar::{Login, answer_challenge};
use switchyard_host::sip::{Message, Method, Status};

use crate::harness::World;

/// A message, by its name in the RFC: the start line, header lines, a body; and what is said to a stranger (0: nothing)
/// and to a user (0: he is told nothing else).
type Case = (&'static str, &'static str, &'static str, &'static str, u16, u16);

const SDP: &str = "v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\nm=audio 49217 RTP/AVP 0 12\r\n";

/// Of most: who it is from and for.
const HEAD: &str = "Via: SIP/2.0/UDP host5.example.net;rport;branch=z9hG4bK293423\r\nFrom: <sip:caller@example.net>;tag=1928301774\r\n\
    To: <sip:user@example.test>\r\nMax-Forwards: 70\r\nContact: <sip:caller@host5.example.net>\r\nContent-Type: application/sdp\r\n";

#[rustfmt::skip]
const RFC_4475: [Case; 49] = [
    // 3.1.1 Valid messages
    ("wsinv", "INVITE sip:vivekg@example.test;unknownparam SIP/2.0", "TO :\r\n sip:vivekg@example.test ;   tag    = 1918181833n\r\nfrom   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\nMaX-fOrWaRdS: 0068\r\nCall-ID: wsinv.ndaksdj@192.0.2.1\r\nContent-Length   : 96\r\ncseq: 0009\r\n  INVITE\r\nVia  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;rport;branch=390skdjuw\r\ns :\r\nNewFangledHeader:   newfangled value\r\n continued newfangled value\r\nUnknownHeaderWithUnusualValue: ;;,,;;,;\r\nContent-Type: application/sdp\r\nRoute:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\nv:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\nm:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n", SDP, 481, 0),
    ("intmeth", "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.test SIP/2.0", "Via: SIP/2.0/UDP host1.example.com;rport;branch=z9hG4bK-.!%66*_+`'~\r\nTo: \"BEL:\\\u{7} NUL:\\\u{0} DEL:\\\u{7f}\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>\r\nFrom: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"\u{440}\u{430}\u{431}\";tag=_token~1'+`*%!-.\r\nCall-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\r\nCSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\r\nMax-Forwards: 255\r\nextensionHeader-!.%*+_`'~:\u{feff}\u{5927}\u{505c}\u{96fb}\r\n", "", 501, 0),
    ("esc01", "INVITE sip:sips%3Auser%40example.com@example.test SIP/2.0", "To: sip:%75se%72@example.com\r\nFrom: <sip:I%20have%20spaces@example.net>;tag=938\r\nMax-Forwards: 87\r\ni: esc01.239409asdfakjkn23onasd0-3234\r\nCSeq: 234234 INVITE\r\nVia: SIP/2.0/UDP host5.example.net;rport;branch=z9hG4bKkdjuw\r\nC: application/sdp\r\nContact: <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>\r\n", SDP, 401, 404),
    ("escnull", "REGISTER sip:example.test SIP/2.0", "To: sip:null-%00-null@example.test\r\nFrom: sip:null-%00-null@example.test;tag=839923423\r\nMax-Forwards: 70\r\nCall-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd\r\nCSeq: 14398234 REGISTER\r\nVia: SIP/2.0/UDP host5.example.com;rport;branch=z9hG4bKkdjuw\r\nContact: <sip:%00@host5.example.com>\r\nContact: <sip:%00%00@host5.example.com>\r\nL:0\r\n", "", 401, 403),
    ("esc02", "RE%47IST%45R sip:registrar.example.test SIP/2.0", "To: \"%Z%45\" <sip:resource@example.com>\r\nFrom: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23\r\nCall-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf\r\nVia: SIP/2.0/TCP host.example.com;rport;branch=z9hG4bK209%fzsnel234\r\nCSeq: 29344 RE%47IST%45R\r\nMax-Forwards: 70\r\nContact: <sip:alias1@host1.example.com>\r\nC%6Fntact: <sip:alias2@host2.example.com>\r\nl: 0\r\n", "", 501, 0),
    ("lwsdisp", "OPTIONS sip:user@example.test SIP/2.0", "To: sip:user@example.com\r\nFrom: caller<sip:caller@example.com>;tag=323\r\nMax-Forwards: 70\r\nCall-ID: lwsdisp.1234abcd@funky.example.com\r\nCSeq: 60 OPTIONS\r\nVia: SIP/2.0/UDP funky.example.com;rport;branch=z9hG4bKkdjuw\r\nl: 0\r\n", "", 200, 0),
    ("longreq", "INVITE sip:user@example.test SIP/2.0", "LONG", SDP, 401, 404),
    ("dblreq", "REGISTER sip:example.test SIP/2.0", "To: sip:j.user@example.test\r\nFrom: sip:j.user@example.test;tag=43251j3j324\r\nMax-Forwards: 8\r\nI: dblreq.0ha0isndaksdj99sdfafnl3lk233412\r\nContact: sip:j.user@host.example.com\r\nCSeq: 8 REGISTER\r\nVia: SIP/2.0/UDP 192.0.2.125;rport;branch=z9hG4bKkdjuw23492\r\nContent-Length: 0\r\n", "INVITE sip:joe@example.test SIP/2.0\r\nt: sip:joe@example.com\r\nFrom: sip:caller@example.net;tag=141334\r\nCall-ID: dblreq.0ha0isnda977644900765@192.0.2.15\r\nCSeq: 8 INVITE\r\nVia: SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKkdjuw380234\r\n\r\n", 401, 403),
    ("semiuri", "OPTIONS sip:user;par=u%40example.net@example.test SIP/2.0", "To: sip:j_user@example.com\r\nFrom: sip:caller@example.org;tag=33242\r\nMax-Forwards: 3\r\nCall-ID: semiuri.0ha0isndaksdj\r\nCSeq: 8 OPTIONS\r\nAccept: application/sdp, application/pkcs7-mime,\r\n multipart/mixed, multipart/signed,\r\n message/sip, message/sipfrag\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bKkdjuw\r\nl: 0\r\n", "", 200, 0),
    ("transports", "OPTIONS sip:user@example.test SIP/2.0", "To: sip:user@example.com\r\nFrom: <sip:caller@example.com>;tag=323\r\nMax-Forwards: 70\r\nCall-ID: transports.kijh4akdnaqjkwendsasfdj\r\nAccept: application/sdp\r\nCSeq: 60 OPTIONS\r\nVia: SIP/2.0/UDP t1.example.com;rport;branch=z9hG4bKkdjuw\r\nVia: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf\r\nVia: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj\r\nVia: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en\r\nVia: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee\r\nl: 0\r\n", "", 200, 0),
    ("mpart01", "MESSAGE sip:kumiko@example.test SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5070;rport;branch=z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-\r\nMax-Forwards: 70\r\nTo: <sip:kumiko@example.org>\r\nFrom: <sip:fluffy@example.com>;tag=2fb0dcc9\r\nCall-ID: 3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..\r\nCSeq: 1 MESSAGE\r\nContent-Transfer-Encoding: binary\r\nContent-Type: multipart/mixed;boundary=7a9cbec02ceef655\r\n", "--7a9cbec02ceef655\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nHello\r\n--7a9cbec02ceef655\r\nContent-Type: application/octet-stream\r\n\r\n\u{0}\u{1}\u{ff}\r\n--7a9cbec02ceef655--\r\n", 401, 404),
    ("unreason", "SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e} \u{441}\u{442}\u{43e} = 3", "HEAD1 INVITE", "", 0, 0),
    ("noreason", "SIP/2.0 100 ", "HEAD1 INVITE", "", 0, 0),
    // 3.1.2 Invalid messages
    ("badinv01", "INVITE sip:user@example.test SIP/2.0", "To: sip:j.user@example.com\r\nFrom: sip:caller@example.net;tag=134161461246\r\nMax-Forwards: 7\r\nCall-ID: badinv01.0ha0isndaksdjasdf3234nas\r\nCSeq: 8 INVITE\r\nVia: SIP/2.0/UDP 192.0.2.15;;,;,,\r\nContact: \"Joe\" <sip:joe@example.org>;;;;\r\nContent-Length: 0\r\n", "", 0, 0),
    ("clerr", "INVITE sip:user@example.test SIP/2.0", "HEAD1 INVITE\r\nContent-Length: 9999", SDP, 400, 0),
    ("ncl", "INVITE sip:user@example.test SIP/2.0", "HEAD1 INVITE\r\nContent-Length: -999", SDP, 400, 0),
    ("scalar02", "REGISTER sip:example.test SIP/2.0", "Via: SIP/2.0/TCP host129.example.com;rport;branch=z9hG4bK342sdfoi3\r\nTo: <sip:user@example.com>\r\nFrom: <sip:user@example.com>;tag=239232jh3\r\nCSeq: 36893488147419103232 REGISTER\r\nCall-ID: scalar02.23o0pd9vanlq3wnrlnewofjas9ui32\r\nMax-Forwards: 300\r\nExpires: 10000000000000000000000000000000000000000000000000\r\nContact: <sip:user@host129.example.com>;expires=280297596632815\r\nContent-Length: 0\r\n", "", 400, 0),
    ("scalarlg", "SIP/2.0 503 Service Unavailable", "Via: SIP/2.0/TCP host129.example.com;branch=z9hG4bKzzxdiwo34sw;received=192.0.2.129\r\nTo: <sip:user@example.com>\r\nFrom: <sip:other@example.net>;tag=2easdjfejw\r\nCSeq: 9292394834772304023312 OPTIONS\r\nCall-ID: scalarlg.noase0of0234hn2qofoaf0232aewf2394r\r\nRetry-After: 949302838503028349304023988\r\nWarning: 1812 overture \"In Progress\"\r\nContent-Length: 0\r\n", "", 0, 0),
    ("quotbal", "INVITE sip:user@example.test SIP/2.0", "To: \"Mr. J. User <sip:j.user@example.com>\r\nFrom: sip:caller@example.net;tag=93334\r\nMax-Forwards: 10\r\nCall-ID: quotbal.aksdj\r\nContact: <sip:caller@host59.example.net>\r\nCSeq: 8 INVITE\r\nVia: SIP/2.0/UDP 192.0.2.59:5050;rport;branch=z9hG4bKkdjuw39234\r\n", SDP, 400, 0),
    ("ltgtruri", "INVITE <sip:user@example.test> SIP/2.0", "HEAD1 INVITE", SDP, 400, 0),
    ("lwsruri", "INVITE sip:user@example.test; lr SIP/2.0", "HEAD1 INVITE", SDP, 400, 0),
    ("lwsstart", "INVITE  sip:user@example.test  SIP/2.0", "HEAD1 INVITE", SDP, 400, 0),
    ("trws", "OPTIONS sip:user@example.test SIP/2.0  ", "HEAD1 OPTIONS", "", 400, 0),
    ("escruri", "INVITE sip:user@example.test?Route=%3Csip:example.com%3E SIP/2.0", "HEAD1 INVITE", SDP, 400, 0),
    ("baddate", "INVITE sip:user@example.test SIP/2.0", "HEAD1 INVITE\r\nDate: Fri, 01 Jan 2010 16:00:00 EST", SDP, 401, 404),
    ("regbadct", "REGISTER sip:example.test SIP/2.0", "To: sip:alice@example.test\r\nFrom: sip:alice@example.test;tag=998332\r\nMax-Forwards: 70\r\nCall-ID: regbadct.k345asrl3fdbv@10.0.0.1\r\nCSeq: 1 REGISTER\r\nVia: SIP/2.0/UDP 135.180.130.133:5060;rport;branch=z9hG4bKkdjuw\r\nContact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\r\nl: 0\r\n", "", 401, 400),
    ("badaspec", "OPTIONS sip:user@example.test SIP/2.0", "Via: SIP/2.0/UDP host4.example.com:5060;rport;branch=z9hG4bKkdju43234\r\nMax-Forwards: 70\r\nFrom: \"Bell, Alexander\" <sip:a.g.bell@example.com>;tag=433423\r\nTo: \"Watson, Thomas\" < sip:t.watson@example.org >\r\nCall-ID: badaspec.sdf0234n2nds0a099u23h3hnnw009cdkne3\r\nAccept: application/sdp\r\nCSeq: 3923239 OPTIONS\r\nl: 0\r\n", "", 400, 0),
    ("baddn", "OPTIONS sip:t.watson@example.test SIP/2.0", "Via: SIP/2.0/UDP c.example.com:5060;rport;branch=z9hG4bKkdjuw\r\nMax-Forwards: 70\r\nFrom: Bell, Alexander <sip:a.g.bell@example.com>;tag=43\r\nTo: Watson, Thomas <sip:t.watson@example.org>\r\nCall-ID: baddn.31415@c.example.com\r\nAccept: application/sdp\r\nCSeq: 3923239 OPTIONS\r\nl: 0\r\n", "", 200, 0),
    ("badvers", "OPTIONS sip:t.watson@example.test SIP/7.0", "HEAD1 OPTIONS", "", 505, 0),
    ("mismatch01", "OPTIONS sip:user@example.test SIP/2.0", "HEAD1 INVITE", "", 400, 0),
    ("mismatch02", "NEWMETHOD sip:user@example.test SIP/2.0", "HEAD1 INVITE", SDP, 400, 0),
    ("bigcode", "SIP/2.0 4294967301 better not break the receiver", "HEAD1 INVITE", "", 0, 0),
    // 3.2 Transaction layer
    ("badbranch", "OPTIONS sip:user@example.test SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:caller@example.org;tag=33242\r\nMax-Forwards: 3\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK\r\nAccept: application/sdp\r\nCall-ID: badbranch.sadonfo23i420jv0as0derf3j3n\r\nCSeq: 8 OPTIONS\r\nl: 0\r\n", "", 200, 0),
    // 3.3 Application layer
    ("insuf", "INVITE sip:user@example.test SIP/2.0", "CSeq: 193942 INVITE\r\nVia: SIP/2.0/UDP 192.0.2.95;rport;branch=z9hG4bKkdj.insuf\r\nContent-Type: application/sdp\r\nl: 0\r\n", "", 400, 0),
    ("unkscm", "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", "HEAD1 OPTIONS", "", 416, 0),
    ("novelsc", "OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", "HEAD1 OPTIONS", "", 416, 0),
    ("unksm2", "REGISTER sip:example.test SIP/2.0", "To: isbn:2983792873\r\nFrom: <http://www.example.com>;tag=3234233\r\nCall-ID: unksm2.daksdj@hyphenated-host.example.com\r\nCSeq: 234902 REGISTER\r\nMax-Forwards: 70\r\nVia: SIP/2.0/UDP 192.0.2.21:5060;rport;branch=z9hG4bKkdjuw\r\nContact: <name:John_Smith>\r\nl: 0\r\n", "", 401, 404),
    ("bext01", "OPTIONS sip:user@example.test SIP/2.0", "HEAD1 OPTIONS\r\nRequire: nothingSupportsThis, nothingSupportsThisEither\r\nProxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis", "", 420, 0),
    ("invut", "INVITE sip:1002@example.test SIP/2.0", "HEAD1 INVITE", "<audio>\r\n <pcmu port=\"443\"/>\r\n</audio>\r\n", 401, 415),
    ("regaut01", "REGISTER sip:example.test SIP/2.0", "HEAD1 REGISTER\r\nAuthorization: NoOneKnowsThisScheme opaque-data=here", "", 401, 403),
    ("multi01", "INVITE sip:user@example.test SIP/2.0", "HEAD1 INVITE\r\nCSeq: 59 INVITE\r\nCall-ID: multi01.98asdh@192.0.2.2\r\nMax-Forwards: 5\r\nTo: sip:other@example.test\r\nFrom: sip:caller@example.com;tag=3413415\r\nContact: <sip:caller@host36.example.net>", SDP, 400, 0),
    ("mcl01", "OPTIONS sip:user@example.test SIP/2.0", "HEAD1 OPTIONS\r\nContent-Length: 13\r\nContent-Length: 5", "There's no way to know how many octets are supposed to be here.\r\n", 400, 0),
    ("bcast", "SIP/2.0 200 OK", "Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\r\nVia: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\r\nCall-ID: bcast.0384840201234ksdfak3j2erwedfsASdf\r\nCSeq: 35 INVITE\r\nFrom: sip:user@example.com;tag=11141343\r\nTo: sip:user@example.edu;tag=2229\r\nContent-Type: application/sdp\r\nContact: <sip:user@host28.example.com>\r\n", SDP, 0, 0),
    ("zeromf", "OPTIONS sip:user@example.test SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:caller@example.net;tag=3ghsd41\r\nCall-ID: zeromf.jfasdlfnm2o2l43r5u0asdfas\r\nCSeq: 39234321 OPTIONS\r\nVia: SIP/2.0/UDP host1.example.com;rport;branch=z9hG4bKkdjuw2349i\r\nMax-Forwards: 0\r\nContent-Length: 0\r\n", "", 200, 0),
    ("cparam01", "REGISTER sip:example.test SIP/2.0", "Via: SIP/2.0/UDP saturn.example.com:5060;rport;branch=z9hG4bKkdjuw\r\nMax-Forwards: 70\r\nFrom: sip:alice@example.test;tag=DkfVgjkrtMwaerKKpe\r\nTo: sip:alice@example.test\r\nCall-ID: cparam01.70710@saturn.example.com\r\nCSeq: 2 REGISTER\r\nContact: sip:+19725552222@gw1.example.net;unknownparam\r\nl: 0\r\n", "", 401, 200),
    ("cparam02", "REGISTER sip:example.test SIP/2.0", "Via: SIP/2.0/UDP saturn.example.com:5060;rport;branch=z9hG4bKkdjuw\r\nMax-Forwards: 70\r\nFrom: sip:alice@example.test;tag=838293\r\nTo: sip:alice@example.test\r\nCall-ID: cparam02.70710@saturn.example.com\r\nCSeq: 3 REGISTER\r\nContact: <sip:+19725552222@gw1.example.net;unknownparam>\r\nl: 0\r\n", "", 401, 200),
    ("regescrt", "REGISTER sip:example.test SIP/2.0", "To: sip:alice@example.test\r\nFrom: sip:alice@example.test;tag=8\r\nMax-Forwards: 70\r\nCall-ID: regescrt.k345asrl3fdbv@192.0.2.1\r\nCSeq: 14398234 REGISTER\r\nVia: SIP/2.0/UDP host5.example.com;rport;branch=z9hG4bKkdjuw\r\nM: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\r\nL:0\r\n", "", 401, 200),
    ("sdp01", "INVITE sip:1002@example.test SIP/2.0", "HEAD1 INVITE\r\nAccept: text/nobodyKnowsThis", SDP, 401, 100),
    // 3.4 Backward compatibility
    ("inv2543", "INVITE sip:UserB@example.test SIP/2.0", "Via: SIP/2.0/UDP iftgw.example.com;rport\r\nFrom: <sip:+13035551111@ift.client.example.net;user=phone>\r\nRecord-Route: <sip:UserB@example.com;maddr=ss1.example.com>\r\nTo: sip:+16505552222@ss1.example.net;user=phone\r\nCall-ID: inv2543.1717@ift.client.example.com\r\nCSeq: 56 INVITE\r\nContent-Type: application/sdp\r\n", SDP, 401, 404),
];

#[rustfmt::skip]
const RFC_5118: [Case; 11] = [
    ("ipv6-good", "REGISTER sip:[2001:db8::10] SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;branch=z9hG4bKas3-111\r\nCall-ID: SSG9559905523997077@hlau_4100\r\nMax-Forwards: 70\r\nContact: \"Caller\" <sip:caller@[2001:db8::1]>\r\nCSeq: 98176 REGISTER\r\nContent-Length: 0\r\n", "", 401, 404),
    ("ipv6-bad", "REGISTER sip:2001:db8::10 SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;branch=z9hG4bKas3-111\r\nCall-ID: SSG9559905523997077@hlau_4100\r\nMax-Forwards: 70\r\nContact: \"Caller\" <sip:caller@[2001:db8::1]>\r\nCSeq: 98176 REGISTER\r\nContent-Length: 0\r\n", "", 400, 0),
    ("port-ambiguous", "REGISTER sip:[2001:db8::10:5070] SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;branch=z9hG4bKas3-111\r\nCall-ID: 1@hlau_4100\r\nContact: \"Caller\" <sip:caller@[2001:db8::1]>\r\nMax-Forwards: 70\r\nCSeq: 98176 REGISTER\r\nContent-Length: 0\r\n", "", 401, 404),
    ("port-unambiguous", "REGISTER sip:[2001:db8::10]:5070 SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;branch=z9hG4bKas3-111\r\nCall-ID: 2@hlau_4100\r\nContact: \"Caller\" <sip:caller@[2001:db8::1]>\r\nMax-Forwards: 70\r\nCSeq: 98176 REGISTER\r\nContent-Length: 0\r\n", "", 401, 404),
    ("via-received-param-with-delim", "OPTIONS sip:[::1] SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;received=[2001:db8::9:255];branch=z9hG4bKas3-111\r\nCall-ID: 3@hlau_4100\r\nMax-Forwards: 70\r\nCSeq: 98176 OPTIONS\r\nContent-Length: 0\r\n", "", 200, 0),
    ("via-received-param-no-delim", "OPTIONS sip:[::1] SIP/2.0", "To: sip:user@example.com\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;received=2001:db8::9:255;branch=z9hG4bKas3-111\r\nCall-ID: 4@hlau_4100\r\nMax-Forwards: 70\r\nCSeq: 98176 OPTIONS\r\nContent-Length: 0\r\n", "", 200, 0),
    ("ipv6-in-sdp", "INVITE sip:1002@example.test SIP/2.0", "To: sip:user@[2001:db8::10]\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::20];rport;branch=z9hG4bKas3-111\r\nCall-ID: 5@hlau_4100\r\nContact: \"Caller\" <sip:caller@[2001:db8::20]>\r\nCSeq: 8612 INVITE\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\n", "v=0\r\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\r\ns=Live video feed for today's meeting\r\nc=IN IP6 2001:db8::20\r\nt=3338481189 3370017201\r\nm=audio 6000 RTP/AVP 2\r\na=rtpmap:2 G726-32/8000\r\n", 401, 100),
    ("mult-ip-in-header", "OPTIONS sip:user@[2001:db8:0:1::1] SIP/2.0", "To: sip:user@[2001:db8::10]\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1]:6050;rport;branch=z9hG4bKas3-111\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144\r\nVia: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200\r\nCall-ID: 6@lau_4100\r\nMax-Forwards: 70\r\nCSeq: 8912 OPTIONS\r\nContent-Length: 0\r\n", "", 200, 0),
    ("mult-ip-in-sdp", "INVITE sip:1002@example.test SIP/2.0", "To: sip:user@[2001:db8::10]\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;branch=z9hG4bKas3-111\r\nContact: Caller <sip:caller@[2001:db8::9:1]>\r\nCall-ID: 7@hlau_4100\r\nMax-Forwards: 70\r\nCSeq: 8912 INVITE\r\nContent-Type: application/sdp\r\n", "v=0\r\no=bob 280744730 28977631 IN IP4 host.example.com\r\ns=\r\nt=0 0\r\nm=audio 22334 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\nm=video 6024 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:107 H263-1998/90000\r\n", 401, 100),
    ("ipv4-mapped-ipv6", "INVITE sip:1002@example.test SIP/2.0", "Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;rport;branch=z9hG4bKbh19\r\nVia: SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111;received=[::ffff:192.0.2.2]\r\nContact: \"T. desk phone\" <sip:ted@[::ffff:192.0.2.2]>\r\nFrom: \"I. Caller\" <sip:ted@[::ffff:192.0.2.2]>;tag=1\r\nTo: <sip:user@example.com>\r\nCSeq: 612 INVITE\r\nMax-Forwards: 70\r\nCall-ID: 8@hlau_4100\r\nContent-Type: application/sdp\r\n", "v=0\r\no=assistant 971731711378798081 0 IN IP6 ::ffff:192.0.2.2\r\ns=Call me soon, please!\r\nc=IN IP6 ::ffff:192.0.2.2\r\nt=3338481189 3370017201\r\nm=audio 6000 RTP/AVP 2\r\na=rtpmap:2 G726-32/8000\r\n", 401, 100),
    ("ipv6-bug-abnf-3-colons", "OPTIONS sip:user@[2001:db8:::192.0.2.1] SIP/2.0", "To: sip:user@[2001:db8:::192.0.2.1]\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: SIP/2.0/UDP [2001:db8::9:1];rport;branch=z9hG4bKas3-111\r\nCall-ID: 9@hlau_4100\r\nMax-Forwards: 70\r\nCSeq: 98176 OPTIONS\r\nContent-Length: 0\r\n", "", 400, 0),
];

/// The whole message. `more` is one header line more.
fn text(&(name, start, head, body, ..): &Case, more: &str) -> String {
    let head = match head.strip_prefix("HEAD1 ") {
        Some(rest) => {
            let (method, rest) = rest.split_once("\r\n").unwrap_or((rest, ""));
            let rest = if rest.is_empty() { String::new() } else { format!("{rest}\r\n") };
            let head = if name == "invut" {
                HEAD.replace("application/sdp", "application/unknownformat")
            } else {
                HEAD.to_owned()
            };
            format!("{head}Call-ID: {name}\r\nCSeq: 1 {method}\r\n{rest}")
        }
        None if head == "LONG" => {
            let long = "long".repeat(200);
            let hops = (0..34)
                .map(|hop| format!("Via: SIP/2.0/TCP sip{hop}.example.com;branch=z9hG4bK{long}{hop}\r\n"));
            format!(
                "{HEAD}{}Call-ID: longreq.one{long}\r\nCSeq: 3882340 INVITE\r\nUnknown-{long}: unknown-{long}-value; unknown-{long}-parameter-name = {long}\r\n",
                hops.collect::<String>()
            )
        }
        None => head.to_owned(),
    };
    format!("{start}\r\n{more}{head}\r\n{body}")
}

/// What is said to a message from `from`, in order.
fn told(world: &mut World, from: SocketAddr, text: &str) -> Vec<Message> {
    let before = world.strays.len();
    let flow = Flow {
        protocol: Protocol::Udp,
        local: world.host_address(),
        remote: from,
        connection: None,
        edge: None,
    };
    world.host_gets(Input::Received { flow, bytes: Bytes::copy_from_slice(text.as_bytes()) });
    let said = world.strays[before..].iter().filter(|(flow, _)| flow.remote.ip() == from.ip());
    said.map(|(_, bytes)| Message::parse(bytes.clone()).unwrap_or_else(|_| answer_without(bytes))).collect()
}

/// An answer to a request that lacks what an answer must copy lacks it as well.
fn answer_without(bytes: &Bytes) -> Message {
    let text = String::from_utf8_lossy(bytes);
    let (start, _) = text.split_once("\r\n").unwrap();
    let whole = format!("{start}\r\n{HEAD}Call-ID: x\r\nCSeq: 1 X\r\n\r\n");
    Message::parse(Bytes::from(whole)).unwrap()
}

fn statuses(messages: &[Message]) -> Vec<u16> {
    messages.iter().filter_map(Message::status).map(|Status(code)| code).collect()
}

fn all_have_their_outcome(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let (name, start, _, _, stranger, user) = *case;
        let mut world = World::new();
        world.phones(["bob"]);
        let from = SocketAddr::from(([203, 0, 113, number as u8 + 1], 5060));
        let first = told(&mut world, from, &text(case, ""));
        let expected: Vec<u16> = Some(stranger).filter(|status| *status != 0).into_iter().collect();
        if statuses(&first) != expected {
            wrong.push(format!("{name}: a stranger is told {:?}", statuses(&first)));
        }
        if stranger == 401 && statuses(&first) == [401] {
            let (method, rest) = start.split_once(' ').unwrap();
            let uri = rest.trim_end_matches(" SIP/2.0");
            let login = Login { user: "alice", password: "alice-secret" };
            let (_, value) = answer_challenge(&first[0], login, &Method::parse(method), uri, 1, "c").unwrap();
            let again = told(&mut world, from, &text(case, &format!("Authorization: {value}\r\n")));
            if statuses(&again).first() != Some(&user) {
                wrong.push(format!("{name}: a user is told {:?}", again));
            }
        }
        // Whatever came, the host goes on.
        let options = "OPTIONS sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;branch=z9hG4bKafter\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: after\r\nCSeq: 1 OPTIONS\r\n\r\n";
        assert_eq!(statuses(&told(&mut world, from, options)), [200], "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_message_of_rfc_4475_has_its_outcome() {
    all_have_their_outcome(&RFC_4475);
}

#[test]
fn each_message_of_rfc_5118_has_its_outcome() {
    all_have_their_outcome(&RFC_5118);
}
