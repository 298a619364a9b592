"""The shop's addresses."""

from django.urls import path

from shop import views

urlpatterns = [
    path("", views.home),
    path("buy", views.buy),
    path("export", views.export),
]
