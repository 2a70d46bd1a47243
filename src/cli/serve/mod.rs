//! `hamflow serve`: runs, graph, logs, curves and artifacts as web pages, while they happen.

mod artifacts;
mod curves;
mod http;
mod page;
mod reply;
mod router;
mod run_page;
mod runs;
mod runs_page;
mod site;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use clap::Args;

use super::{CliError, Common, pages};
use crate::config::Kinds;
use crate::sys;
use crate::ui;
use site::Site;

/// Arguments of `hamflow serve`.
#[derive(Debug, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    common: Common,
    /// Address to listen on; any other than a loopback address is reachable from other machines
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 chooses a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
}

/// Runs the command.
pub fn execute(arguments: &ServeArguments, kinds: Kinds) -> Result<u8, CliError> {
    let site = Site::new(arguments.common.clone(), kinds)?;
    let wanted = SocketAddr::new(arguments.host, arguments.port);
    let listener = TcpListener::bind(wanted).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::AddrNotAvailable => "`--host` takes an address of this machine",
            _ => "choose another `--port`, or leave it out to get a free one",
        };
        CliError::user(format!("cannot listen on {wanted}: {error}")).hint(hint)
    })?;
    let address =
        listener.local_addr().map_err(|error| CliError::user(format!("cannot listen on {wanted}: {error}")))?;
    let token = token()?;
    if !address.ip().is_loopback() {
        ui::say(&format!(
            "warning: {address} can be reached from other machines, by everybody who knows the address below"
        ));
    }
    let shown = match address.ip().is_unspecified() {
        true => format!("{}:{}", sys::host_name(), address.port()),
        false => address.to_string(),
    };
    let url = format!("http://{shown}/{token}/");
    ui::data(&url);
    ui::say("serving until interrupted (Ctrl-C)");
    if arguments.open {
        pages::open(url.as_ref())?;
    }
    http::serve(listener, token, site).map_err(|error| CliError::user(format!("the server stopped: {error}")))?;
    Ok(0)
}

/// A secret part of the address, so that other users and web sites on this machine cannot read the pages.
fn token() -> Result<String, CliError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| CliError::bug(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
