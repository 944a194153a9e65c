"""The machinery that the service stands on. Releases replace it; its owner rarely opens it.

Each name below is a room with one face: import `kit.errors`, never a module in it whose name begins
with an underscore. A room uses those on the floors below its own, never one above or beside it:

    architecture, commands                   # what `make test` checks; what `make` runs
    doctor, rehearsal, resource              # checks; load until a limit ends; a resource's files
    http, testing                            # the API around the service's routes; fixtures
    live                                     # the start page in development
    status                                   # queues, connections and outboxes at one moment
    admin, lifespan, queue                   # SQLAdmin; start and end; Celery, beat and Flower
    listing, messages, outbox, security      # pages of rows; messages; rows to send; tokens
    errors, migrations, models               # problem details; Alembic; the kit's tables
    causes, connections                      # why something failed; how many there are
    database, pages, redis                   # sessions; templates; the pool and Celery's transport
    extensions, process                      # which are on; name and log of this process
    discovery                                # modules of a package
    settings                                 # where settings come from, the kit's own settings
    context, conventions, devservices        # ids of request and task; names; embedded servers
    places                                   # where the service is found

Nothing here imports the service. What the kit needs of it is at the places that `kit.places`
names. `tests/test_architecture.py` checks all of this.
"""
