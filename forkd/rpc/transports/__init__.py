"""How calls travel; one module or package for each transport, with a server's side and a client's."""
