"""Vouchers in the admin."""

from sqladmin import ModelView

from app.models.voucher import Voucher


class VoucherAdmin(ModelView, model=Voucher):
    """Vouchers."""

    column_list = ("id", "code", "percent", "label", "note")
    column_searchable_list = ("code", "label")
