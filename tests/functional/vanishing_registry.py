"""Ask a registry whose machine is gone, in a network namespace of its own: ``unshare -rn python <this file>``.

Prints what a request raises that nothing takes any more, on a connection that was open before.
"""

import socket
import subprocess
import threading

from pyrimage.catalogue.queries import ListQuery
from pyrimage.catalogue.records import ADMINISTRATOR
from pyrimage.catalogue.remote.catalogue import RemoteCatalogue
from pyrimage.errors import DatabaseAway
from pyrimage.settings import read_settings
from pyrimage.stores import make_configurator, store_kinds

ANSWER = b'HTTP/1.1 200 OK\r\nx-openstack-request-id: req-1\r\nContent-Length: 14\r\n\r\n{"images": []}'
EVERYTHING = ListQuery(default_scope=False)


def answer_once(server: socket.socket, over: threading.Event) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(ANSWER)
        over.wait()


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_once, args=(server, over), daemon=True).start()
        ini = {
            "pyrimage.registry_host": f"127.0.0.1:{server.getsockname()[1]}",
            "pyrimage.registry_secret": "a secret that nobody guesses",
            "pyrimage.registry_client_timeout": "3600",
            "pyrimage.auth": "none",
            "pyrimage.filesystem_store_datadir": "/nowhere",
        }
        catalogue = RemoteCatalogue(read_settings(ini, store_kinds(make_configurator(ini))))
        catalogue.brief_page(EVERYTHING, ADMINISTRATOR)
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
        try:
            catalogue.brief_page(EVERYTHING, ADMINISTRATOR)
        except DatabaseAway as error:
            print(error)
        over.set()


if __name__ == "__main__":
    main()
