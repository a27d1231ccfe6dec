//! Our messages as values of the `rsip` crate: the vocabulary plugin authors, admin and tests may know already.
//!
//! Made on demand from our slices, never the other way round: rsip's own parser and printer see nothing that comes from
//! or goes to the network. What rsip has no words for (IPv6 hosts, `tel:`, methods outside its list, URI headers) is
//! [`NotRepresentable`], not an approximation. The tests below are also the list of what it would read differently.

use rsip::headers::untyped::UntypedHeader;
use rsip::headers::{self, Header};

use super::message::Message;
use super::method::Method;
use super::name::Name;
use super::status::Status;
use super::uri::{Scheme, Uri, parse_ip};

/// Why a message cannot be said in rsip's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRepresentable {
    /// A response was asked for as a request, or the reverse.
    #[error("not a {0}")]
    Kind(&'static str),
    /// A method outside of rsip's closed list.
    #[error("method {0}")]
    Method(String),
    /// A URI with a part rsip cannot hold.
    #[error("URI with {0}")]
    Uri(&'static str),
    /// A header that is not UTF-8.
    #[error("header {0} is not UTF-8")]
    Header(String),
}

impl TryFrom<&Method> for rsip::Method {
    type Error = NotRepresentable;

    fn try_from(method: &Method) -> Result<Self, NotRepresentable> {
        Ok(match method {
            Method::Invite => rsip::Method::Invite,
            Method::Ack => rsip::Method::Ack,
            Method::Bye => rsip::Method::Bye,
            Method::Cancel => rsip::Method::Cancel,
            Method::Register => rsip::Method::Register,
            Method::Options => rsip::Method::Options,
            Method::Prack => rsip::Method::PRack,
            Method::Subscribe => rsip::Method::Subscribe,
            Method::Notify => rsip::Method::Notify,
            Method::Publish => rsip::Method::Publish,
            Method::Info => rsip::Method::Info,
            Method::Refer => rsip::Method::Refer,
            Method::Message => rsip::Method::Message,
            Method::Update => rsip::Method::Update,
            Method::Other(name) => return Err(NotRepresentable::Method(name.to_string())),
        })
    }
}

impl From<Status> for rsip::StatusCode {
    fn from(status: Status) -> Self {
        rsip::StatusCode::from(status.0)
    }
}

impl TryFrom<&Uri> for rsip::Uri {
    type Error = NotRepresentable;

    fn try_from(uri: &Uri) -> Result<Self, NotRepresentable> {
        let scheme = match uri.scheme {
            Scheme::Sip => rsip::Scheme::Sip,
            Scheme::Sips => rsip::Scheme::Sips,
            Scheme::Tel => return Err(NotRepresentable::Uri("the scheme tel")),
            Scheme::Other(_) => return Err(NotRepresentable::Uri("a scheme other than sip")),
        };
        if !uri.headers.is_empty() {
            return Err(NotRepresentable::Uri("headers"));
        }
        let host = match parse_ip(&uri.host) {
            Some(std::net::IpAddr::V6(_)) => return Err(NotRepresentable::Uri("an IPv6 address")),
            Some(v4) => rsip::Host::IpAddr(v4),
            None => rsip::Host::Domain(rsip::Domain::from(uri.host.as_str())),
        };
        let params = uri.params.iter().map(|(name, value)| match (name, value) {
            ("lr", None) => Ok(rsip::Param::Lr),
            param => rsip::Param::try_from(param)
                .map_err(|_| NotRepresentable::Uri("a transport or method of its own")),
        });
        Ok(rsip::Uri {
            scheme: Some(scheme),
            auth: uri.user.clone().map(|user| (user, uri.password.clone()).into()),
            host_with_port: rsip::HostWithPort { host, port: uri.port.map(rsip::Port::from) },
            params: params.collect::<Result<_, _>>()?,
            headers: Vec::new(),
        })
    }
}

impl TryFrom<&Message> for rsip::Request {
    type Error = NotRepresentable;

    fn try_from(message: &Message) -> Result<Self, NotRepresentable> {
        if !message.is_request() {
            return Err(NotRepresentable::Kind("request"));
        }
        let uri = Uri::parse(message.uri()).map_err(|_| NotRepresentable::Uri("a malformed part"))?;
        Ok(rsip::Request {
            method: (&message.method).try_into()?,
            uri: (&uri).try_into()?,
            version: rsip::Version::V2,
            headers: headers(message)?,
            body: message.body().to_vec(),
        })
    }
}

impl TryFrom<&Message> for rsip::Response {
    type Error = NotRepresentable;

    fn try_from(message: &Message) -> Result<Self, NotRepresentable> {
        let status = message.status().ok_or(NotRepresentable::Kind("response"))?;
        Ok(rsip::Response {
            status_code: status.into(),
            version: rsip::Version::V2,
            headers: headers(message)?,
            body: message.body().to_vec(),
        })
    }
}

/// All headers in order. Lists whose typed form in rsip is a single value become one header per element.
fn headers(message: &Message) -> Result<rsip::Headers, NotRepresentable> {
    let mut out = Vec::new();
    for (field, (name, value)) in message.fields.iter().zip(message.fields()) {
        let value = std::str::from_utf8(value).map_err(|_| NotRepresentable::Header(name.to_owned()))?;
        match field.known {
            Some(known @ (Name::Via | Name::Contact | Name::Route | Name::RecordRoute)) => {
                out.extend(super::grammar::list(value).map(|element| header(known, element)));
            }
            Some(known) => out.push(header(known, value)),
            None => out.push(Header::Other(name.to_owned(), value.to_owned())),
        }
    }
    Ok(out.into())
}

fn header(name: Name, value: &str) -> Header {
    match name {
        Name::Accept => headers::Accept::new(value).into(),
        Name::AcceptEncoding => headers::AcceptEncoding::new(value).into(),
        Name::AcceptLanguage => headers::AcceptLanguage::new(value).into(),
        Name::AlertInfo => headers::AlertInfo::new(value).into(),
        Name::Allow => headers::Allow::new(value).into(),
        Name::AuthenticationInfo => headers::AuthenticationInfo::new(value).into(),
        Name::Authorization => headers::Authorization::new(value).into(),
        Name::CSeq => headers::CSeq::new(value).into(),
        Name::CallId => headers::CallId::new(value).into(),
        Name::CallInfo => headers::CallInfo::new(value).into(),
        Name::Contact => headers::Contact::new(value).into(),
        Name::ContentDisposition => headers::ContentDisposition::new(value).into(),
        Name::ContentEncoding => headers::ContentEncoding::new(value).into(),
        Name::ContentLanguage => headers::ContentLanguage::new(value).into(),
        Name::ContentLength => headers::ContentLength::new(value).into(),
        Name::ContentType => headers::ContentType::new(value).into(),
        Name::Date => headers::Date::new(value).into(),
        Name::ErrorInfo => headers::ErrorInfo::new(value).into(),
        Name::Event => headers::Event::new(value).into(),
        Name::Expires => headers::Expires::new(value).into(),
        Name::From => headers::From::new(value).into(),
        Name::InReplyTo => headers::InReplyTo::new(value).into(),
        Name::MaxForwards => headers::MaxForwards::new(value).into(),
        Name::MimeVersion => headers::MimeVersion::new(value).into(),
        Name::MinExpires => headers::MinExpires::new(value).into(),
        Name::Organization => headers::Organization::new(value).into(),
        Name::Priority => headers::Priority::new(value).into(),
        Name::ProxyAuthenticate => headers::ProxyAuthenticate::new(value).into(),
        Name::ProxyAuthorization => headers::ProxyAuthorization::new(value).into(),
        Name::ProxyRequire => headers::ProxyRequire::new(value).into(),
        Name::RecordRoute => headers::RecordRoute::new(value).into(),
        Name::ReplyTo => headers::ReplyTo::new(value).into(),
        Name::Require => headers::Require::new(value).into(),
        Name::RetryAfter => headers::RetryAfter::new(value).into(),
        Name::Route => headers::Route::new(value).into(),
        Name::Server => headers::Server::new(value).into(),
        Name::Subject => headers::Subject::new(value).into(),
        Name::SubscriptionState => headers::SubscriptionState::new(value).into(),
        Name::Supported => headers::Supported::new(value).into(),
        Name::Timestamp => headers::Timestamp::new(value).into(),
        Name::To => headers::To::new(value).into(),
        Name::Unsupported => headers::Unsupported::new(value).into(),
        Name::UserAgent => headers::UserAgent::new(value).into(),
        Name::Via => headers::Via::new(value).into(),
        Name::Warning => headers::Warning::new(value).into(),
        Name::WwwAuthenticate => headers::WwwAuthenticate::new(value).into(),
        other => Header::Other(other.as_str().to_owned(), value.to_owned()),
    }
}

#[cfg(test)]
mod tests;
