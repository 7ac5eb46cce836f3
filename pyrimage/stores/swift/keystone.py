"""Who we are for Swift, and where it is: Keystone, version 3."""

import contextlib
import threading
from collections.abc import Iterator

from keystoneauth1 import exceptions
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from .login import READ_SECONDS, Access, LoginRefused
from .settings import SwiftSettings


class KeystoneLogin:
    """A user and a password for a token of a project, and for the catalogue that says where Swift is."""

    def __init__(self, settings: SwiftSettings) -> None:
        self._settings = settings
        project, _, user = settings.swift_store_user.partition(":")
        self._address = settings.swift_store_auth_address.removesuffix("/v3") + "/v3"
        password = v3.Password(
            self._address,
            username=user,
            password=settings.swift_store_key,
            user_domain_name=settings.swift_store_user_domain_name,
            project_name=project,
            project_domain_name=settings.swift_store_project_domain_name,
        )
        verify = str(settings.swift_store_cacert) if settings.swift_store_cacert else True
        # Redirects are not followed: with them the password would go wherever they lead.
        self._session = Session(password, verify=verify, timeout=READ_SECONDS, redirect=False)
        self._lock = threading.Lock()

    def access(self) -> Access:
        """Log in, or return what is still good for half a minute."""
        return Access(self._endpoint(self._settings.swift_store_endpoint_type), self._token())

    def forget(self, access: Access) -> None:
        """Log in anew, unless another thread just did."""
        with self._lock:
            if self._token() == access.token:
                self._session.invalidate()

    def public_url(self) -> str:
        """Return the account's public URL in the catalogue."""
        return self._endpoint("publicURL")

    def close(self) -> None:
        """Close the connection to Keystone."""
        self._session.close()

    def _token(self) -> str:
        with self._translated():
            return self._session.get_token() or ""

    def _endpoint(self, interface: str) -> str:
        region = self._settings.swift_store_region
        with self._translated(), contextlib.suppress(exceptions.CatalogException):
            url = self._session.get_endpoint(service_type="object-store", interface=interface, region_name=region)
            if url:
                return url.rstrip("/")
        where = f"region {region}" if region else "any region"
        raise LoginRefused(
            f"The catalogue of {self._address} has no {interface} of a service of the type object-store in {where}: "
            "look at swift_store_region and swift_store_endpoint_type."
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Tell a refusal from what may pass."""
        try:
            yield
        except exceptions.HttpError as error:
            if error.http_status >= 500:
                raise ConnectionError(f"{self._address} answers {error.http_status}") from error
            raise LoginRefused(
                f"{self._address} refuses the user ({error.http_status}): look at swift_store_user, swift_store_key "
                "and the two domains, and whether the user has a role in the project."
            ) from error
        except exceptions.ClientException as error:
            raise ConnectionError(f"{self._address} does not answer as Keystone does") from error
