"""Authentication: API tokens for programs, passwords for administrators, principals for requests.

The names below are those that the rest of the service uses.
"""

from kit.security._admin_users import (
    disable_admin,
    ensure_admin,
    generate_password,
    hash_password,
    normalise_username,
    set_admin_password,
    verify_password,
)
from kit.security._api_tokens import (
    ALL_SCOPES,
    DEFAULT_SCOPE,
    NEW_TOKENS_SCOPES,
    create_api_token,
    ensure_api_token,
    forget_known_tokens,
    revoke_api_token,
)
from kit.security._principals import (
    ANONYMOUS_USERS,
    ANYONE,
    GUARDS,
    PROGRAMS,
    USERS,
    WEBSOCKET_PROTOCOL,
    Kind,
    Principal,
    PrincipalProvider,
    Serves,
    asks_who_calls,
    bearer_token,
    register_principal_provider,
    require_principal,
    routes_and_callers,
    serve_anyone,
    serves,
)
