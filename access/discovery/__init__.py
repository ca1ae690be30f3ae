"""Where endpoints come from: one module per source. A new source is a module here and a row in RESOLVERS."""

from typing import NamedTuple

from access.discovery.base import Resolver, SourceConfig
from access.discovery.dns import DnsResolver
from access.discovery.dns_config import DnsConfig
from access.discovery.file import FileConfig, FileResolver
from access.discovery.nodefile import NodefileConfig, NodefileResolver
from access.discovery.static import StaticConfig, StaticResolver
from access.discovery.zookeeper import ZookeeperConfig, ZookeeperResolver

__all__ = ["RESOLVERS", "Resolver", "SourceConfig", "SourceKind"]


class SourceKind(NamedTuple):
    """A kind of source: what its part of the configuration looks like, and what reads it."""

    config: type[SourceConfig]
    resolver: type[Resolver]


RESOLVERS: dict[str, SourceKind] = {
    "dns": SourceKind(DnsConfig, DnsResolver),
    "file": SourceKind(FileConfig, FileResolver),
    "nodefile": SourceKind(NodefileConfig, NodefileResolver),
    "static": SourceKind(StaticConfig, StaticResolver),
    "zookeeper": SourceKind(ZookeeperConfig, ZookeeperResolver),
}
